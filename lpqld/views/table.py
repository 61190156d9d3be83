"""Views that were drawn elsewhere, as explicit columns: what an imported label set has instead of a drawing rule.

Views stand in the order in which they were recorded, batch after batch, and are mixed with views of their own batch. A
smaller set keeps the views that its labels need: its own, and those mixed into them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.views.table_checks import check_table
from lpqld.views.table_layout import CropUnit


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

    Raises:
        DataError: a column is not what this says.
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
        check_table(self)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def crop_shares(self) -> NDArray[np.float32]:
        """`crops` in shares of the side, float32 [T, 4]."""
        return self.crops / np.float32(self.side) if self.crop_unit == "pixel" else self.crops

    @cached_property
    def batches(self) -> NDArray[np.int64]:
        """The batch of each view, [T]."""
        return np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)

    @cached_property
    def batch_starts(self) -> NDArray[np.int64]:
        """The first view of each batch, [M]."""
        return np.cumsum(self.batch_sizes) - self.batch_sizes

    @property
    def own_batch_sizes(self) -> NDArray[np.int64]:
        """Views of the batch of each view, [T]."""
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
        labelled = np.zeros(len(self), dtype=bool)
        labelled[self.order[:num_views]] = True
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


def _taken(column: NDArray[Any] | None, index: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if column is None else column[index]
