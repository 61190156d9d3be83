"""What every table of views is held to, whoever made it: an importer, a reader of files, or a smaller set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lpqld.errors import DataError

if TYPE_CHECKING:
    from lpqld.views.table import ViewTable

_CUTOUT_COLUMNS = 7  # centre and size in pixels, then red, green, blue from 0 to 255
_HALF_PRECISION_END = 1.001  # half precision rounds up now and then


def check_table(table: ViewTable) -> None:
    """Raise DataError where a column is not what `ViewTable` says."""
    _check_shapes(table)
    if len(table) and not (table.rows.min() >= 0 and table.rows.max() < table.num_images):
        raise DataError(f"a view of image {table.rows.max()}, of {table.num_images} images from 0")
    _check_crops(table)
    _check_partners(table)
    _check_boxes(table)


def _check_shapes(table: ViewTable) -> None:
    count, batches = len(table.rows), len(table.batch_sizes)
    if not (table.batch_sizes >= 1).all() or table.batch_sizes.sum() != count:
        raise DataError(f"batches of {table.batch_sizes.sum()} views, and there are {count}")
    if (table.partners is None) != (table.lams is None) or (table.partners is None and table.boxes is not None):
        raise DataError("partners and lambdas come together, and boxes only with them")
    shapes: dict[str, tuple[int, ...]] = {"crops": (count, 4), "flips": (count,), "labelled": (count,)}
    shapes |= {"partners": (count,), "lams": (batches,)} if table.partners is not None else {}
    shapes |= {"boxes": (batches, 4)} if table.boxes is not None else {}
    shapes |= {"cutouts": (count, _CUTOUT_COLUMNS)} if table.cutouts is not None else {}
    shapes |= {"ranks": (count,)} if table.ranks is not None else {}
    for name, expected in shapes.items():
        shape = getattr(table, name).shape
        if shape != expected:
            raise DataError(f"{name} have shape {shape}, expected {expected}")


def _check_crops(table: ViewTable) -> None:
    limit = table.side if table.crop_unit == "pixel" else _HALF_PRECISION_END
    ends = table.crops[:, :2] + table.crops[:, 2:]
    if not ((table.crops >= 0).all() and (table.crops[:, 2:] > 0).all() and (ends <= limit).all()):
        raise DataError("a crop is empty or leaves the image")


def _check_partners(table: ViewTable) -> None:
    if table.partners is None:
        return
    outside = (table.partners < 0) | (table.partners >= table.own_batch_sizes)
    if outside.any():
        view = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"view {view} is mixed with view {table.partners[view]} of its batch of {table.own_batch_sizes[view]}"
        )


def _check_boxes(table: ViewTable) -> None:
    if table.boxes is None:
        return
    top, left, bottom, right = table.boxes.T
    within_rows = (top >= 0) & (top <= bottom) & (bottom <= table.side)
    within_columns = (left >= 0) & (left <= right) & (right <= table.side)
    if not (within_rows & within_columns).all():
        raise DataError(f"a box leaves the image of {table.side} pixels")
