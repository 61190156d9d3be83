"""Views that were drawn elsewhere and stand in a table: those of imported label sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import Stream, permutation
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.storage import Fields, Location
from lpqld.views.params import ViewParams
from lpqld.views.rule import ViewRule
from lpqld.views.source import Reordered, TableOfViews, Views
from lpqld.views.table import ViewTable
from lpqld.views.table_bytes import MAX_TABLE_BYTES, VIEWS_FILE, read_table, table_to_bytes


class RecordedOrder:
    """Which view of a table stands at which position of a label set: see `ViewTable.order`."""

    def __init__(self, table: ViewTable, labels: NDArray[np.integer]) -> None:
        """`labels`: classes of the images, [N]."""
        self.table, self.labels = table, labels

    def rows_and_numbers(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows in the image set, and views of the table, at `positions`."""
        views = self.table.order[positions]
        return self.table.rows[views], views

    def classes(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.int32]:
        """Class of the image and of its partner, [B, 2]; -1 for the partner where nothing is mixed."""
        partners = np.full(len(rows), -1)
        if self.table.partners is not None:
            partners = self.labels[self.table.rows[self.table.partner_views[views]]]
        return np.stack([self.labels[rows], partners], axis=1).astype(np.int32)

    def keys(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """All that renders the views, as bytes, [B]: a smaller set has a smaller table, whose views count anew."""
        params = self.draw(positions)
        columns = [np.asarray(column, dtype=np.float64).reshape(len(params), -1) for column in vars(params).values()]
        rows = np.ascontiguousarray(np.concatenate(columns, axis=1))
        return rows.view(np.dtype((np.void, rows.strides[0]))).reshape(-1)

    def draw(self, positions: NDArray[np.int64]) -> ViewParams:
        """The parameters of the views at `positions` [B]."""
        table, views = self.table, self.table.order[positions]
        partners, batches, side = table.partner_views[views], table.batches[views], np.float32(table.side)
        count = len(views)
        lam: NDArray[np.float32] = np.ones(count, dtype=np.float32)
        box: NDArray[np.float32] = np.zeros((count, 4), dtype=np.float32)
        if table.boxes is None and table.lams is not None:
            lam = table.lams[batches]
        if table.boxes is not None:
            edges = table.boxes[batches].astype(np.float32)
            box[:, :2], box[:, 2:] = edges[:, :2] / side, (edges[:, 2:] - edges[:, :2]) / side
        cutout: NDArray[np.float32] = np.zeros((count, 4), dtype=np.float32)
        colour = cutout[:, :3]
        if table.cutouts is not None:
            cutout, colour = _cutout_boxes(table.cutouts[views], table.side)
        return ViewParams(
            rows=table.rows[views],
            crop=table.crop_shares[views],
            flip=table.flips[views],
            partner=table.rows[partners],
            partner_crop=table.crop_shares[partners],
            partner_flip=table.flips[partners],
            lam=lam,
            box=box,
            cutout=cutout,
            color=colour,
        )


class RecordedViews(RecordedOrder):
    """All views of a table, of an image set."""

    def __init__(self, images: ImageSet, source: RecordedSource) -> None:
        super().__init__(source.table, images.labels.numpy())
        self.images, self._source = images, source

    @property
    def source(self) -> RecordedSource:
        """The table, and the rule and seed that describe it."""
        return self._source

    def positions_in_epoch(self, epoch: int, num_labels: int, seed: int) -> NDArray[np.int64]:
        """Positions that training reads in `epoch`, shuffled: every image that has labels once, all its before repeats.

        Raises:
            ConfigError: there are no labels.
        """
        if not num_labels:
            raise ConfigError("a table of views without a label trains nothing; keep at least one label per image")
        rows = self.table.rows[self.table.order[:num_labels]]
        by_image = np.argsort(rows, kind="stable")
        _, starts, counts = np.unique(rows[by_image], return_index=True, return_counts=True)
        positions: NDArray[np.int64] = by_image[starts + epoch % counts]
        shuffled: NDArray[np.int64] = positions[permutation(seed, Stream.ORDER, epoch, len(positions))]
        return shuffled

    def recorded_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The positions of an epoch's batches in the recorded order: the next ones, which hold as many views as images.

        After the last batch comes the first. Views without a label are left out.
        """
        table = self.table
        per_epoch = max(1, round(len(table.batch_sizes) * table.num_images / len(table.order)))
        chosen = (epoch * per_epoch + np.arange(per_epoch)) % len(table.batch_sizes)
        batches = [
            table.positions[start : start + size]
            for start, size in zip(table.batch_starts[chosen], table.batch_sizes[chosen], strict=True)
        ]
        return [batch[batch >= 0] for batch in batches if (batch >= 0).any()]


@dataclass(frozen=True)
class RecordedSource:
    """Views that another program drew and recorded; rule and seed only describe them.

    Attributes:
        rule, seed: for people, and for what is drawn in their place.
        table: of the views.
    """

    rule: ViewRule
    seed: int
    table: ViewTable = field(compare=False, repr=False)

    format_version: ClassVar[int] = 2
    origin: ClassVar[str] = "imported, as another program drew them"
    file_names: ClassVar[tuple[str, ...]] = (VIEWS_FILE,)
    as_pillow: ClassVar[bool] = True
    redrawable: ClassVar[bool] = False

    @property
    def identity(self) -> tuple[object, ...]:
        """That views are told by all that renders them, so those of any tables can be compared."""
        return ("a table",)

    @property
    def in_batches(self) -> bool:
        """They are recorded in batches."""
        return True

    @classmethod
    def read(cls, rule: ViewRule, seed: int, fields: Fields, folder: Location | None) -> RecordedSource:
        """Read the table whose bytes and checksum the manifest's field `views` says."""
        assert folder is not None, "a table is in its label set's folder"
        entry = fields.fields("views")
        table = read_table(folder, entry.integer("bytes", 1, MAX_TABLE_BYTES), entry.digest("sha256"))
        entry.finish()
        return cls(rule, seed, table)

    def check(self, *, num_images: int, side: int, num_views: int, selected: bool) -> None:
        """Refuse another set's table."""
        table = self.table
        if (table.num_images, table.side, len(table.order)) != (num_images, side, num_views):
            raise ConfigError(
                f"a table of views of {table.num_images} images of {table.side} pixels with {len(table.order)} labels, "
                f"for a set of {num_images} images of {side} pixels with {num_views}"
            )
        if selected:
            raise ConfigError("select says which views were kept; a table of views says so itself")

    @cached_property
    def content(self) -> bytes:
        """The bytes of the table's file."""
        return table_to_bytes(self.table)

    def files(self) -> dict[str, bytes]:
        """The table's file."""
        return {VIEWS_FILE: self.content}

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def manifest_entry(self) -> dict[str, Any] | None:
        """Bytes and checksum of the table's file."""
        return {"bytes": len(self.content), "sha256": self._sha256}

    def view_numbers(self, num_images: int, num_views: int) -> NDArray[np.int64]:
        """The place of each label's view among its image's, [num_views]."""
        return self.table.numbers

    def first(self, num_views: int) -> RecordedSource:
        """Of a table that has the views of the first labels, and those mixed into them."""
        return replace(self, table=self.table.first(num_views))

    def reordered(self, source: NDArray[np.int64], by: str, numbers: NDArray[np.int64]) -> Reordered:
        """Of a table that says the order."""
        return Reordered(replace(self, table=self.table.reordered(source)), None, None)

    def order(
        self, ids: NDArray[np.int64], classes: NDArray[np.integer], numbers: NDArray[np.int64] | None = None
    ) -> RecordedOrder:
        """Which view each label is of, for images of these classes [N]; the table knows images by their rows."""
        return RecordedOrder(self.table, classes)

    def of(self, images: ImageSet, numbers: NDArray[np.int64] | None = None) -> RecordedViews:
        """The views of an image set."""
        return RecordedViews(images, self)

    def as_table(self, views: Callable[[], Views], num_views: int, batch_size: int) -> TableOfViews:
        """The table as it is."""
        return TableOfViews(self.table, self.table.positions)


def _cutout_boxes(cutouts: NDArray[np.int64], side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (top, left, height, width) as shares of the side [B, 4], clipped to the image, and colours [B, 3]."""
    centres, sizes = cutouts[:, :2], cutouts[:, 2:4]
    start = (centres - sizes // 2).clip(0, side)
    end = (centres + sizes // 2 + 1).clip(0, side)  # the writer's boxes include their last row and column
    boxes = np.concatenate([start, end - start], axis=1) / side
    return boxes.astype(np.float32), (cutouts[:, 4:] / 255).astype(np.float32)
