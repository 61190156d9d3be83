"""What a source of views promises: the protocols that `registry` has the members of.

A `ViewSource` describes the views of a label set without its images, and is part of the label set's specification.
Given classes and ids of images it says which view has which label (`ViewOrder`); given the images, what to render and
in which order to train (`Views`). A label's place is its position, from 0 to the number of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lpqld.images import ImageSet
from lpqld.storage import Fields, Location
from lpqld.views.params import ViewParams
from lpqld.views.rule import ViewRule
from lpqld.views.table import ViewTable


class Reordered(NamedTuple):
    """Labels whose views of every image were put in another order.

    Attributes:
        views: their source.
        select: what their specification says that views are in the order of; None where `views` says so.
        numbers: the number of each label's view, int64 [num_views], which shards then hold; None where they do not.
    """

    views: ViewSource
    select: str | None
    numbers: NDArray[np.int64] | None


class TableOfViews(NamedTuple):
    """Views in batches.

    Attributes:
        table: T views in recorded order.
        positions: the label of each, int64 [T]; -1 for a view that has none.
    """

    table: ViewTable
    positions: NDArray[np.int64]


class ViewOrder(Protocol):
    """Which view each label is of; no pixels are needed."""

    def rows_and_numbers(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in the image set, and what tells a view of an image from its others, at `positions` [B]: [B] each."""

    def classes(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.int32]:
        """Class of each image and of the one mixed into it, [B, 2]; -1 where nothing is mixed.

        Args:
            rows, views: what `rows_and_numbers` gives, [B] each.
        """

    def keys(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """What tells the views at `positions` from all others of sources of the same `identity`, [B]."""

    def draw(self, positions: NDArray[np.int64]) -> ViewParams:
        """The parameters of the views at `positions` [B]."""


class Views(ViewOrder, Protocol):
    """The views of an image set.

    Attributes:
        images: the image set.
    """

    images: ImageSet

    @property
    def source(self) -> ViewSource:
        """What these are the views of."""

    def positions_in_epoch(self, epoch: int, num_labels: int, seed: int) -> NDArray[np.int64]:
        """Positions that training reads in `epoch`, shuffled: every image once, all its views before any repeats.

        Args:
            epoch: from 0.
            num_labels: labels in all.
            seed: of the order.

        Raises:
            ConfigError: there are too few labels.
        """

    def recorded_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The positions of each batch of an epoch, in the order in which they were recorded.

        Raises:
            ConfigError: these views have no such order.
        """


class ViewSource(Protocol):
    """Which views a label set's labels are of: a frozen value, equal to another of the same views.

    Attributes:
        format_version: of label sets with such views.
        origin: where the views come from, for people.
        file_names: of the files that a label set has for its views beside the shards.
        as_pillow: views are rendered as Pillow does it, rather than as `rendering.render` does.
        redrawable: `rule` is what the views were drawn by, so that others drawn by one like it can take their place.
    """

    format_version: ClassVar[int]
    origin: ClassVar[str]
    file_names: ClassVar[tuple[str, ...]]
    as_pillow: ClassVar[bool]
    redrawable: ClassVar[bool]

    @property
    def rule(self) -> ViewRule:
        """The distribution that the views were drawn from."""

    @property
    def seed(self) -> int:
        """Of the draws, in [0, 2**64)."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for sources whose views of the same images can be compared by `ViewOrder.keys`."""

    @property
    def in_batches(self) -> bool:
        """Whether `as_table` can say them: views are not mixed, or with others of their batch by one box or lambda."""

    @classmethod
    def read(cls, rule: ViewRule, seed: int, fields: Fields, folder: Location | None) -> ViewSource:
        """The source that a manifest describes.

        Args:
            rule, seed: as the manifest says.
            fields: of the manifest; those of the views alone are taken.
            folder: of the label set; None where `file_names` is empty.

        Raises:
            DataError: a field or a file is wrong; the message names it.
        """

    def check(self, *, num_images: int, side: int, num_views: int, selected: bool) -> None:
        """Refuse a label set that this is not the source of.

        Args:
            num_images: of the set.
            side: of its images in pixels.
            num_views: its labels.
            selected: its shards say the numbers of their views.

        Raises:
            ConfigError: saying what does not fit.
        """

    def files(self) -> dict[str, bytes]:
        """The content of each of `file_names`."""

    def manifest_entry(self) -> dict[str, Any] | None:
        """What the manifest says of the files; None where there are none."""

    def view_numbers(self, num_images: int, num_views: int) -> NDArray[np.int64]:
        """The place of each label's view among its image's, [num_views], where its shard does not say it."""

    def first(self, num_views: int) -> ViewSource:
        """The source of a set of the first `num_views` labels."""

    def reordered(self, source: NDArray[np.int64], by: str, numbers: NDArray[np.int64]) -> Reordered:
        """The same with the views of every image in another order.

        Args:
            source: position p has what was at `source[p]`, [num_views].
            by: the name of the order.
            numbers: of the views that are at each position now, [num_views].
        """

    def order(
        self, ids: NDArray[np.int64], classes: NDArray[np.integer], numbers: NDArray[np.int64] | None = None
    ) -> ViewOrder:
        """Which view each label is of, for images of these ids and classes [N].

        Args:
            ids, classes: of the images.
            numbers: the number of each label's view, [num_views], where shards say it.
        """

    def of(self, images: ImageSet, numbers: NDArray[np.int64] | None = None) -> Views:
        """The views of an image set; `numbers` as in `order`."""

    def as_table(self, views: Callable[[], Views], num_views: int, batch_size: int) -> TableOfViews:
        """The first views in batches, with whole pixels where they were not recorded.

        Args:
            views: called where they must be drawn for it.
            num_views: how many.
            batch_size: about as many in a batch, where they were not recorded in batches.
        """
