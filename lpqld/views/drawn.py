"""Views that are drawn by version 1 of the rule.

A view's parameters are a pure function of (label-set seed, image id, view number), so a view costs no bytes and any
worker can render it. Tests pin golden values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import Stream, permutation, random_words, uniform
from lpqld.errors import ConfigError
from lpqld.images import ImageSet, ranks_in_class
from lpqld.storage import Fields, Location
from lpqld.views.boxes import clipped_box, draw_crops, rounded
from lpqld.views.drawn_table import table_of_drawn
from lpqld.views.params import ViewParams
from lpqld.views.rule import ViewRule
from lpqld.views.source import Reordered, TableOfViews, Views

_BETA_ATTEMPTS = 32
_BLOCK_MAIN, _BLOCK_BOX, _BLOCK_COLOR, _BLOCK_CROP, _BLOCK_PARTNER_CROP, _BLOCK_BETA = 0, 1, 2, 16, 32, 64


class DrawnOrder:
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
            words = random_words(self.seed, Stream.VIEWS, self.ids[rows], views, _BLOCK_MAIN)
            partners = self.labels[self._partners(words, rows)]
        return np.stack([self.labels[rows], partners], axis=1).astype(np.int32)

    def _partners(self, words: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Partners have the same or a lower rank, so that the first images of every class are a set of their own.
        return self.order[(uniform(words[1]) * self._num_up_to_rank[rows]).astype(np.int64)]

    def keys(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the views stand among all of a set whose views were not selected, [B]."""
        _, numbers = self.rows_and_numbers(positions)
        return numbers * len(self.order) + positions % len(self.order)

    def draw(self, positions: NDArray[np.int64]) -> ViewParams:
        """The parameters of the views at `positions` [B]."""
        rows, views = self.rows_and_numbers(positions)
        ids, rule = self.ids[rows], self.rule
        main = random_words(self.seed, Stream.VIEWS, ids, views, _BLOCK_MAIN)
        crop = self._draw_crops(ids, views, _BLOCK_CROP)
        no_box = np.zeros((len(rows), 4), dtype=np.float32)
        partner, partner_crop, partner_flip = rows, crop, np.zeros(len(rows), dtype=bool)
        lam, box, cutout, color = np.ones(len(rows), dtype=np.float32), no_box, no_box, no_box[:, :3]
        if rule.mix != "none":
            partner = self._partners(main, rows)
            partner_crop = self._draw_crops(ids, views, _BLOCK_PARTNER_CROP)
            partner_flip = (main[2] >> np.uint64(63)).astype(bool) & rule.flip
            drawn = uniform(main[3]) if rule.mix_alpha == 1 else self._draw_beta(ids, views)
            centre = random_words(self.seed, Stream.VIEWS, ids, views, _BLOCK_BOX)
            if rule.mix == "cutmix":
                box = clipped_box(uniform(centre[0]), uniform(centre[1]), np.sqrt(1 - drawn))
            else:
                lam = drawn.astype(np.float32)
        if rule.cutout:
            centre = random_words(self.seed, Stream.VIEWS, ids, views, _BLOCK_BOX)
            cutout = clipped_box(uniform(centre[2]), uniform(centre[3]), np.full(len(rows), 0.5))
            color = uniform(random_words(self.seed, Stream.VIEWS, ids, views, _BLOCK_COLOR)[:3]).T.astype(np.float32)
        flip = (main[0] >> np.uint64(63)).astype(bool) & rule.flip
        return ViewParams(rows, crop, flip, partner, partner_crop, partner_flip, lam, box, cutout, color)

    def _draw_crops(self, ids: NDArray[np.int64], views: NDArray[np.int64], block: int) -> NDArray[np.float32]:
        low, high = self.rule.crop_scale
        return draw_crops(self.seed, Stream.VIEWS, ids, views, block, low, high, self.rule.crop_ratio)

    def _draw_beta(self, ids: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float64]:
        """Beta(a, a) numbers [B] by rejection (Joehnk, 1964); 1/2 where 32 attempts fail."""
        drawn = np.full(len(ids), 0.5)
        pending = np.arange(len(ids))
        for attempt in range(_BETA_ATTEMPTS):
            if not len(pending):
                break
            words = random_words(self.seed, Stream.VIEWS, ids[pending], views[pending], _BLOCK_BETA + attempt)
            x, y = uniform(words[:2]) ** (1 / self.rule.mix_alpha)
            accepted = (x + y <= 1) & (x + y > 0)
            drawn[pending[accepted]] = rounded(x[accepted] / (x + y)[accepted])
            pending = pending[~accepted]
        return drawn


class DrawnViews(DrawnOrder):
    """All views of an image set."""

    def __init__(self, images: ImageSet, rule: ViewRule, seed: int, numbers: NDArray[np.int64] | None = None) -> None:
        super().__init__(images.ids, images.labels.numpy(), rule, seed, numbers)
        self.images = images

    @property
    def source(self) -> DrawnSource:
        """The rule and the seed."""
        return DrawnSource(self.rule, self.seed)

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
        return positions[permutation(seed, Stream.ORDER, epoch, num_images)]

    def recorded_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """None: drawn views were never in batches.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("order recorded: these labels were drawn by lpqld; only imported ones have that order")


@dataclass(frozen=True)
class DrawnSource:
    """The views that a rule draws with a seed."""

    rule: ViewRule
    seed: int

    format_version: ClassVar[int] = 1
    origin: ClassVar[str] = "drawn by lpqld"
    file_names: ClassVar[tuple[str, ...]] = ()
    as_pillow: ClassVar[bool] = False
    redrawable: ClassVar[bool] = True

    @property
    def identity(self) -> tuple[object, ...]:
        """The rule and the seed."""
        return self.rule, self.seed

    @property
    def in_batches(self) -> bool:
        """Whether they are unmixed: partners are of any images, each with a box or lambda of its own."""
        return self.rule.mix == "none"

    @classmethod
    def read(cls, rule: ViewRule, seed: int, fields: Fields, folder: Location | None) -> DrawnSource:
        """The rule and the seed; there is nothing else to read."""
        return cls(rule, seed)

    def check(self, *, num_images: int, side: int, num_views: int, selected: bool) -> None:
        """Nothing to refuse: views can be drawn for any images."""

    def files(self) -> dict[str, bytes]:
        """None: they follow from the manifest."""
        return {}

    def manifest_entry(self) -> dict[str, Any] | None:
        """None: the manifest has rule and seed for every set."""
        return None

    def view_numbers(self, num_images: int, num_views: int) -> NDArray[np.int64]:
        """The first view of every image, then the second ..., [num_views]."""
        return np.arange(num_views) // num_images

    def first(self, num_views: int) -> DrawnSource:
        """The same: rule and seed draw any number of views."""
        return self

    def reordered(self, source: NDArray[np.int64], by: str, numbers: NDArray[np.int64]) -> Reordered:
        """The same, with the number of each label's view in its shard."""
        return Reordered(self, by, numbers)

    def order(
        self, ids: NDArray[np.int64], classes: NDArray[np.integer], numbers: NDArray[np.int64] | None = None
    ) -> DrawnOrder:
        """Which view each label is of, for images of these ids and classes [N]."""
        return DrawnOrder(ids, classes, self.rule, self.seed, numbers)

    def of(self, images: ImageSet, numbers: NDArray[np.int64] | None = None) -> DrawnViews:
        """The views of an image set."""
        return DrawnViews(images, self.rule, self.seed, numbers)

    def as_table(self, views: Callable[[], Views], num_views: int, batch_size: int) -> TableOfViews:
        """The views in batches by position."""
        bound = views()
        positions = np.arange(num_views)
        images = bound.images
        table = table_of_drawn(
            bound.draw(positions),
            num_images=images.num_images,
            side=images.size,
            batch_size=batch_size,
            with_cutouts=self.rule.cutout,
        )
        return TableOfViews(table, positions)
