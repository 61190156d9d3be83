"""Views: which there are, and how they are drawn.

A view's parameters are a pure function of (label-set seed, image id, view number), so a view costs no bytes and any
worker can render it. The drawing rule has a version; tests pin golden values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import permutation, random_words, uniform
from lpqld.errors import ConfigError
from lpqld.images import ImageSet, ranks_in_class
from lpqld.storage import Fields

RULE_VERSION = 1
_VIEW_STREAM, ORDER_STREAM = 1, 2
_CROP_ATTEMPTS, _BETA_ATTEMPTS = 10, 32
_BLOCK_MAIN, _BLOCK_BOX, _BLOCK_COLOR, _BLOCK_CROP, _BLOCK_PARTNER_CROP, _BLOCK_BETA = 0, 1, 2, 16, 32, 64


@dataclass(frozen=True)
class ViewRule:
    """The distribution that views are drawn from.

    Attributes:
        crop_scale: smallest and largest share of the image's area that a crop covers, in (0, 1].
        crop_ratio: smallest and largest width / height of a crop.
        flip: mirror half of the views.
        mix: "cutmix" pastes a box of another image's view, "mixup" blends two views, "none".
        mix_alpha: lambda is drawn from Beta(mix_alpha, mix_alpha).
        cutout: paint a box of half the side in one random colour.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    mix: Literal["none", "cutmix", "mixup"] = "cutmix"
    mix_alpha: float = 1.0
    cutout: bool = False
    version: int = RULE_VERSION

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"views.crop_scale must be 0 < low <= high <= 1, found {low}, {high}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ConfigError(f"views.crop_ratio must be 0 < low <= high, found {self.crop_ratio}")
        if self.mix not in ("none", "cutmix", "mixup"):
            raise ConfigError(f"views.mix must be none, cutmix or mixup, found {self.mix!r}")
        if not self.mix_alpha > 0:
            raise ConfigError(f"views.mix_alpha must be above 0, found {self.mix_alpha}")
        if self.version != RULE_VERSION:
            raise ConfigError(f"these views were drawn by rule version {self.version}; this lpqld knows {RULE_VERSION}")

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Fields) -> ViewRule:
        """The inverse of `to_json`.

        Raises:
            DataError: a field is missing, unknown, or of another type.
            ConfigError: a value is out of range.
        """
        scale, ratio = fields.numbers("crop_scale", 2), fields.numbers("crop_ratio", 2)
        rule = cls(
            crop_scale=(scale[0], scale[1]),
            crop_ratio=(ratio[0], ratio[1]),
            flip=fields.flag("flip"),
            mix=fields.text("mix"),  # type: ignore[arg-type]
            mix_alpha=fields.number("mix_alpha"),
            cutout=fields.flag("cutout"),
            version=fields.integer("version", 0, 2**31 - 1),
        )
        fields.finish()
        return rule


@dataclass(frozen=True)
class ViewParams:
    """What it takes to render B views. Boxes are (top, left, height, width) as fractions of the side, [B, 4] float32.

    `rows` and `partner` are rows of the image set, [B] int64. Without mixing `lam` is 1 and `box` empty; a mixup view
    has `lam` below 1, a CutMix view a `box`. Without cutout `cutout` is empty; `color` is its RGB in [0, 1], [B, 3].
    """

    rows: NDArray[np.int64]
    crop: NDArray[np.float32]
    flip: NDArray[np.bool_]
    partner: NDArray[np.int64]
    partner_crop: NDArray[np.float32]
    partner_flip: NDArray[np.bool_]
    lam: NDArray[np.float32]
    box: NDArray[np.float32]
    cutout: NDArray[np.float32]
    color: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64] | slice) -> ViewParams:
        """The parameters of some of these views."""
        return ViewParams(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


class ViewOrder:
    """Which view stands at which position of a label set, and whose image is mixed into it; no pixels are needed.

    Positions run view by view: position p is view p // N of image `order[p % N]`, where `order` lists the images by
    rank within their class, then class. So the first labels of a set are themselves a complete smaller set, with
    numbers of views per image that differ by at most one. Where views were selected, `numbers` says which view of its
    image a position has.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.integer],
        rule: ViewRule,
        seed: int,
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        """`ids` and `labels` (classes) of the images, [N] each."""
        self.ids, self.labels, self.rule, self.seed, self._numbers = ids, labels, rule, seed, numbers
        ranks = ranks_in_class(labels)
        self.order = np.lexsort((labels, ranks))
        self._num_up_to_rank = np.searchsorted(ranks[self.order], ranks, side="right")

    def rows_and_numbers(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in the image set and view numbers at `positions`."""
        numbers = positions // len(self.order) if self._numbers is None else self._numbers[positions]
        return self.order[positions % len(self.order)], numbers

    def classes(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.int32]:
        """Class of the image and of its partner, [B, 2]; -1 for the partner where the rule does not mix."""
        partners = np.full(len(rows), -1)
        if self.rule.mix != "none":
            words = random_words(self.seed, _VIEW_STREAM, self.ids[rows], views, _BLOCK_MAIN)
            partners = self.labels[self._partners(words, rows)]
        return np.stack([self.labels[rows], partners], axis=1).astype(np.int32)

    def _partners(self, words: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Partners have the same or a lower rank, so that the first images of every class are a set of their own.
        return self.order[(uniform(words[1]) * self._num_up_to_rank[rows]).astype(np.int64)]


class Views(ViewOrder):
    """All views of an image set and their parameters."""

    def __init__(self, images: ImageSet, rule: ViewRule, seed: int, numbers: NDArray[np.int64] | None = None) -> None:
        super().__init__(images.ids, images.labels.numpy(), rule, seed, numbers)
        self.images = images

    def draw(self, positions: NDArray[np.int64]) -> ViewParams:
        """The parameters of the views at `positions` [B]."""
        rows, views = self.rows_and_numbers(positions)
        ids, rule = self.ids[rows], self.rule
        main = random_words(self.seed, _VIEW_STREAM, ids, views, _BLOCK_MAIN)
        crop = self._draw_crops(ids, views, _BLOCK_CROP)
        no_box = np.zeros((len(rows), 4), dtype=np.float32)
        partner, partner_crop, partner_flip = rows, crop, np.zeros(len(rows), dtype=bool)
        lam, box, cutout, color = np.ones(len(rows), dtype=np.float32), no_box, no_box, no_box[:, :3]
        if rule.mix != "none":
            partner = self._partners(main, rows)
            partner_crop = self._draw_crops(ids, views, _BLOCK_PARTNER_CROP)
            partner_flip = (main[2] >> np.uint64(63)).astype(bool) & rule.flip
            drawn = uniform(main[3]) if rule.mix_alpha == 1 else self._draw_beta(ids, views)
            centre = random_words(self.seed, _VIEW_STREAM, ids, views, _BLOCK_BOX)
            if rule.mix == "cutmix":
                box = _clipped_box(uniform(centre[0]), uniform(centre[1]), np.sqrt(1 - drawn))
            else:
                lam = drawn.astype(np.float32)
        if rule.cutout:
            centre = random_words(self.seed, _VIEW_STREAM, ids, views, _BLOCK_BOX)
            cutout = _clipped_box(uniform(centre[2]), uniform(centre[3]), np.full(len(rows), 0.5))
            color = uniform(random_words(self.seed, _VIEW_STREAM, ids, views, _BLOCK_COLOR)[:3]).T.astype(np.float32)
        flip = (main[0] >> np.uint64(63)).astype(bool) & rule.flip
        return ViewParams(rows, crop, flip, partner, partner_crop, partner_flip, lam, box, cutout, color)

    def _draw_crops(self, ids: NDArray[np.int64], views: NDArray[np.int64], block: int) -> NDArray[np.float32]:
        low, high = self.rule.crop_scale
        return draw_crops(self.seed, _VIEW_STREAM, ids, views, block, low, high, self.rule.crop_ratio)

    def _draw_beta(self, ids: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float64]:
        """Beta(a, a) numbers [B] by rejection (Joehnk, 1964); 1/2 where 32 attempts fail."""
        drawn = np.full(len(ids), 0.5)
        pending = np.arange(len(ids))
        for attempt in range(_BETA_ATTEMPTS):
            if not len(pending):
                break
            words = random_words(self.seed, _VIEW_STREAM, ids[pending], views[pending], _BLOCK_BETA + attempt)
            x, y = uniform(words[:2]) ** (1 / self.rule.mix_alpha)
            accepted = (x + y <= 1) & (x + y > 0)
            drawn[pending[accepted]] = _rounded(x[accepted] / (x + y)[accepted])
            pending = pending[~accepted]
        return drawn

    def positions_in_epoch(self, epoch: int, num_labels: int, seed: int) -> NDArray[np.int64]:
        """Positions [N] that training reads in `epoch`, shuffled: every image once, all its views before any repeats.

        Raises:
            ConfigError: there are fewer labels than images.
        """
        num_images = self.images.num_images
        if num_labels < num_images:
            raise ConfigError(
                f"{num_labels} labels cannot cover {num_images} images; keep at least one label per image"
            )
        index = np.arange(num_images)
        num_views = num_labels // num_images + (index < num_labels % num_images)
        positions = (epoch % num_views) * num_images + index
        return positions[permutation(seed, ORDER_STREAM, epoch, num_images)]


def _rounded(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractions on a grid of 2**-16, so that a last-bit difference between machines' libm does not show."""
    return np.rint(fractions * 65536) / 65536


def _clipped_box(
    centre_y: NDArray[np.float64], centre_x: NDArray[np.float64], side: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Boxes (top, left, height, width) [B, 4] of `side` around a centre, clipped to the image."""
    top, bottom = np.clip(centre_y - side / 2, 0, 1), np.clip(centre_y + side / 2, 0, 1)
    left, right = np.clip(centre_x - side / 2, 0, 1), np.clip(centre_x + side / 2, 0, 1)
    return _rounded(np.stack([top, left, bottom - top, right - left], axis=1)).astype(np.float32)


def draw_crops(
    seed: int,
    stream: int,
    ids: NDArray[np.int64],
    views: NDArray[np.int64],
    block: int,
    low: float | NDArray[np.float64],
    high: float,
    ratio: tuple[float, float],
) -> NDArray[np.float32]:
    """Random resized crops [B, 4], (top, left, height, width) in shares of the side.

    Each is the first of ten attempts that fits the image, else the whole image.

    Args:
        seed, stream, block: of `draws.random_words`; ten blocks from `block` on.
        ids, views: [B].
        low, high: smallest (also for each, [B]) and largest share of the area.
        ratio: smallest and largest width / height.
    """
    crops = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(ids), 1))
    pending, lows = np.arange(len(ids)), np.broadcast_to(low, len(ids))
    for attempt in range(_CROP_ATTEMPTS):
        if not len(pending):
            break
        words = random_words(seed, stream, ids[pending], views[pending], block + attempt)
        u_area, u_ratio, u_top, u_left = uniform(words)
        area = lows[pending] + (high - lows[pending]) * u_area
        aspect = ratio[0] * (ratio[1] / ratio[0]) ** u_ratio
        height, width = _rounded(np.sqrt(area / aspect)), _rounded(np.sqrt(area * aspect))
        fits = (height <= 1) & (width <= 1)
        crop = np.stack([_rounded(u_top * (1 - height)), _rounded(u_left * (1 - width)), height, width], axis=1)
        crops[pending[fits]] = crop[fits]
        pending = pending[~fits]
    return crops
