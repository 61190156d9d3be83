"""Views from a table, in the place of those that are drawn: `views.Views` for imported label sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import permutation
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.views.drawn import ORDER_STREAM, ViewParams
from lpqld.views.table import ViewTable


class StoredOrder:
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


class StoredViews(StoredOrder):
    """All views of a table, of an image set."""

    def __init__(self, images: ImageSet, table: ViewTable) -> None:
        super().__init__(table, images.labels.numpy())
        self.images = images

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
        positions = by_image[starts + epoch % counts]
        return positions[permutation(seed, ORDER_STREAM, epoch, len(positions))]

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


def _cutout_boxes(cutouts: NDArray[np.int64], side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (top, left, height, width) as shares of the side [B, 4], clipped to the image, and colours [B, 3]."""
    centres, sizes = cutouts[:, :2], cutouts[:, 2:4]
    start = (centres - sizes // 2).clip(0, side)
    end = (centres + sizes // 2 + 1).clip(0, side)  # the writer's boxes include their last row and column
    boxes = np.concatenate([start, end - start], axis=1) / side
    return boxes.astype(np.float32), (cutouts[:, 4:] / 255).astype(np.float32)
