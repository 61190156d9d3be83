"""Views that were drawn elsewhere, as explicit columns: what an imported label set has instead of a drawing rule.

Views stand in the order in which they were recorded, batch after batch, and are mixed with views of their own batch. A
smaller set keeps the views that its labels need: its own, and those mixed into them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import DataError
from lpqld.storage import Location, read_part
from lpqld.views.table_layout import (
    CUTMIX,
    CUTOUT,
    MIXUP,
    RANK,
    CropUnit,
    TableLayout,
    crops_as_integers,
    crops_from_integers,
)

VIEWS_FILE = "views.lpqld"
MAX_TABLE_BYTES = 2**33
_CUTOUT_COLUMNS = 7  # centre and size in pixels, then red, green, blue from 0 to 255


@dataclass(frozen=True)
class ViewTable:
    """T views in recorded order, in batches.

    Attributes:
        num_images: of the image set, N.
        side: S, of images and views in pixels.
        rows: the image of each view, int64 [T].
        crops: (top, left, height, width), float32 [T, 4]: pixels of a side of S where `crop_unit` is "pixel", else
            shares of the side as they were recorded, in half or single precision.
        crop_unit: of `crops`.
        flips: bool [T].
        labelled: which views have a label, bool [T]; the others are only mixed into those.
        batch_sizes: views of each batch, int64 [M]; they add up to T.
        partners: with mixing, the view of the same batch that is mixed in, by its place there, int64 [T]; else None.
        boxes: with CutMix, what each batch takes from the partner, (top, left, bottom, right) in pixels, int64 [M, 4];
            mixing without them is mixup.
        lams: with mixing, the lambda of each batch, float32 [M]: with mixup, the share of the view's own.
        cutouts: with cutout, (centre down, centre right, height, width) in pixels, then red, green, blue from 0 to 255,
            int64 [T, 7]; else None.
        ranks: the place of each labelled view among its image's, where that is not the recorded one; else None.
    """

    num_images: int
    side: int
    rows: NDArray[np.int64]
    crops: NDArray[np.float32]
    crop_unit: CropUnit
    flips: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    batch_sizes: NDArray[np.int64]
    partners: NDArray[np.int64] | None = None
    boxes: NDArray[np.int64] | None = None
    lams: NDArray[np.float32] | None = None
    cutouts: NDArray[np.int64] | None = None
    ranks: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self._check()

    def __len__(self) -> int:
        return len(self.rows)

    def _check(self) -> None:
        """Raise DataError where a column is not what the class says."""
        count, batches = len(self.rows), len(self.batch_sizes)
        if not (self.batch_sizes >= 1).all() or self.batch_sizes.sum() != count:
            raise DataError(f"batches of {self.batch_sizes.sum()} views, and there are {count}")
        shapes: dict[str, tuple[int, ...]] = {"crops": (count, 4), "flips": (count,), "labelled": (count,)}
        if (self.partners is None) != (self.lams is None) or (self.partners is None and self.boxes is not None):
            raise DataError("partners and lambdas come together, and boxes only with them")
        shapes |= {"partners": (count,), "lams": (batches,)} if self.partners is not None else {}
        shapes |= {"boxes": (batches, 4)} if self.boxes is not None else {}
        shapes |= {"cutouts": (count, _CUTOUT_COLUMNS)} if self.cutouts is not None else {}
        shapes |= {"ranks": (count,)} if self.ranks is not None else {}
        for name, shape in shapes.items():
            if (found := getattr(self, name).shape) != shape:
                raise DataError(f"{name} have shape {found}, expected {shape}")
        if count and not (self.rows.min() >= 0 and self.rows.max() < self.num_images):
            raise DataError(f"a view of image {self.rows.max()}, of {self.num_images} images from 0")
        limit = self.side if self.crop_unit == "pixel" else 1.001  # half precision rounds up now and then
        ends = self.crops[:, :2] + self.crops[:, 2:]
        if not ((self.crops >= 0).all() and (self.crops[:, 2:] > 0).all() and (ends <= limit).all()):
            raise DataError("a crop is empty or leaves the image")
        if self.partners is not None and not ((self.partners >= 0) & (self.partners < self._own_sizes)).all():
            bad = int(np.flatnonzero((self.partners < 0) | (self.partners >= self._own_sizes))[0])
            raise DataError(
                f"view {bad} is mixed with view {self.partners[bad]} of its batch of {self._own_sizes[bad]}"
            )
        if self.boxes is not None and not self._boxes_are_within():
            raise DataError(f"a box leaves the image of {self.side} pixels")

    @cached_property
    def crop_shares(self) -> NDArray[np.float32]:
        """`crops` in shares of the side, float32 [T, 4]."""
        return self.crops / np.float32(self.side) if self.crop_unit == "pixel" else self.crops

    def _boxes_are_within(self) -> bool:
        assert self.boxes is not None
        top, left, bottom, right = self.boxes.T
        return bool(((top >= 0) & (top <= bottom) & (bottom <= self.side)).all()) and bool(
            ((left >= 0) & (left <= right) & (right <= self.side)).all()
        )

    @cached_property
    def batches(self) -> NDArray[np.int64]:
        """The batch of each view, [T]."""
        return np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)

    @cached_property
    def batch_starts(self) -> NDArray[np.int64]:
        """The first view of each batch, [M]."""
        return np.cumsum(self.batch_sizes) - self.batch_sizes

    @property
    def _own_sizes(self) -> NDArray[np.int64]:
        return self.batch_sizes[self.batches]

    @cached_property
    def partner_views(self) -> NDArray[np.int64]:
        """The view that is mixed into each, [T]; itself without mixing."""
        if self.partners is None:
            return np.arange(len(self))
        return self.batch_starts[self.batches] + self.partners

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The labelled views by position: first the first one of each image, then the second of each that has two ...

        So a prefix is a smaller set, in which numbers of views per image differ by at most one where they can.
        """
        views = np.flatnonzero(self.labelled)
        numbers = self._numbers(views)
        return views[np.lexsort((self.rows[views], numbers))]

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """The position of each view, the inverse of `order`, [T]; -1 for one without a label."""
        positions = np.full(len(self), -1)
        positions[self.order] = np.arange(len(self.order))
        return positions

    def _numbers(self, views: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each of these views among its image's."""
        if self.ranks is not None:
            return self.ranks[views]
        by_image = np.argsort(self.rows[views], kind="stable")
        rows = self.rows[views][by_image]
        starts = np.searchsorted(rows, rows)
        numbers = np.empty(len(views), dtype=np.int64)
        numbers[by_image] = np.arange(len(views)) - starts
        return numbers

    def first(self, num_views: int) -> ViewTable:
        """The table of a set of the first `num_views` labels: their views, and those that are mixed into them."""
        kept = self.order[:num_views]
        labelled = np.zeros(len(self), dtype=bool)
        labelled[kept] = True
        return replace(self, labelled=labelled)._without_idle()

    def reordered(self, source: NDArray[np.int64]) -> ViewTable:
        """The same with the views of every image in another order: position p has what was at `source[p]`."""
        ranks = np.zeros(len(self), dtype=np.int64)
        ranks[self.order[source]] = self.numbers
        return replace(self, ranks=ranks)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The place of each label's view among its image's, by position."""
        return self._numbers(self.order)

    def _without_idle(self) -> ViewTable:
        """Without views that no label needs, and without batches that are empty then."""
        needed = self.labelled.copy()
        needed[self.partner_views[self.labelled]] = True
        sizes = np.bincount(self.batches[needed], minlength=len(self.batch_sizes))
        left = sizes > 0
        partners = None
        if self.partners is not None:
            places = np.cumsum(needed) - 1  # of the views that are left
            starts = np.cumsum(sizes) - sizes
            # A view that is only mixed in needs no partner of its own.
            wanted = np.where(self.labelled, self.partner_views, np.arange(len(self)))
            partners = (places[wanted] - starts[self.batches])[needed]
        views = ("rows", "crops", "flips", "labelled", "cutouts", "ranks")
        chosen: dict[str, Any] = {name: _taken(getattr(self, name), needed) for name in views}
        chosen |= {name: _taken(getattr(self, name), left) for name in ("boxes", "lams")}
        return replace(self, **chosen, batch_sizes=sizes[left], partners=partners)

    @cached_property
    def sha256(self) -> str:
        """Of `content`, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def content(self) -> bytes:
        """The bytes of a file; `from_bytes` is the inverse."""
        flags = (
            (MIXUP if self.boxes is None else CUTMIX) * (self.partners is not None)
            | CUTOUT * (self.cutouts is not None)
            | RANK * (self.ranks is not None)
        )
        layout = TableLayout(
            unit=get_args(CropUnit).index(self.crop_unit),
            flags=flags,
            num_views=len(self),
            num_batches=len(self.batch_sizes),
            num_images=self.num_images,
            side=self.side,
            largest_batch=int(self.batch_sizes.max(initial=1)),
            largest_rank=0 if self.ranks is None else int(self.ranks.max(initial=0)),
        )
        columns = {
            "batch_sizes": self.batch_sizes - 1,
            "rows": self.rows,
            "crops": crops_as_integers(self.crops, self.crop_unit),
            "flips": self.flips,
            "labelled": self.labelled,
            "partners": self.partners,
            "boxes": self.boxes,
            "lams": None if self.lams is None else self.lams.view(np.uint32),
            "cutouts": None if self.cutouts is None else self.cutouts[:, :4],
            "colours": None if self.cutouts is None else self.cutouts[:, 4:],
            "ranks": self.ranks,
        }
        return layout.pack({name: column for name, column in columns.items() if column is not None})

    @classmethod
    def from_bytes(cls, content: bytes) -> ViewTable:
        """The table in a file's bytes.

        Raises:
            DataError: they are none, or damaged.
        """
        layout, columns = TableLayout.unpack(content)
        unit: CropUnit = get_args(CropUnit)[layout.unit]
        columns["batch_sizes"] += 1
        largest = columns["batch_sizes"].max(), columns["ranks"].max() if "ranks" in columns else 0
        if largest != (layout.largest_batch, layout.largest_rank):
            raise DataError("damaged: the header of a table of views says of its columns what is not so")
        columns["crops"] = crops_from_integers(columns["crops"], unit)
        columns |= {name: columns[name].astype(bool) for name in ("flips", "labelled")}
        if "lams" in columns:
            columns["lams"] = columns["lams"].astype(np.uint32).view(np.float32)
        if "cutouts" in columns:
            columns["cutouts"] = np.concatenate([columns["cutouts"], columns.pop("colours")], axis=1)
        return cls(num_images=layout.num_images, side=layout.side, crop_unit=unit, **columns)


def read_table(folder: Location, num_bytes: int, sha256: str) -> ViewTable:
    """The table in a label set's folder, which has so many bytes and that checksum.

    Raises:
        DataError: it is missing, truncated, damaged or another's; the message names the file.
    """
    path = folder / VIEWS_FILE
    content, size = read_part(path, num_bytes)
    if size != num_bytes:
        raise DataError(f"{path}: {size} bytes, the manifest says {num_bytes}; it is damaged or another label set's")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: its checksum does not match the manifest; it is damaged or another label set's")
    try:
        return ViewTable.from_bytes(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _taken(column: NDArray[Any] | None, index: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if column is None else column[index]
