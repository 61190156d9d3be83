"""A table of views as the bytes of a file, and back."""

from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np

from lpqld.errors import DataError
from lpqld.storage import Location, read_part
from lpqld.views.table import ViewTable
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


def table_to_bytes(table: ViewTable) -> bytes:
    """The bytes of a file; `table_from_bytes` is the inverse."""
    columns = {
        "batch_sizes": table.batch_sizes - 1,
        "rows": table.rows,
        "crops": crops_as_integers(table.crops, table.crop_unit),
        "flips": table.flips,
        "labelled": table.labelled,
        "partners": table.partners,
        "boxes": table.boxes,
        "lams": None if table.lams is None else table.lams.view(np.uint32),
        "cutouts": None if table.cutouts is None else table.cutouts[:, :4],
        "colours": None if table.cutouts is None else table.cutouts[:, 4:],
        "ranks": table.ranks,
    }
    return _layout(table).pack({name: column for name, column in columns.items() if column is not None})


def _layout(table: ViewTable) -> TableLayout:
    """The header of a table's file."""
    flags = (
        (MIXUP if table.boxes is None else CUTMIX) * (table.partners is not None)
        | CUTOUT * (table.cutouts is not None)
        | RANK * (table.ranks is not None)
    )
    return TableLayout(
        unit=get_args(CropUnit).index(table.crop_unit),
        flags=flags,
        num_views=len(table),
        num_batches=len(table.batch_sizes),
        num_images=table.num_images,
        side=table.side,
        largest_batch=int(table.batch_sizes.max(initial=1)),
        largest_rank=0 if table.ranks is None else int(table.ranks.max(initial=0)),
    )


def table_from_bytes(content: bytes) -> ViewTable:
    """The table in a file's bytes.

    Raises:
        DataError: they are none, or damaged.
    """
    layout, columns = TableLayout.unpack(content)
    unit: CropUnit = get_args(CropUnit)[layout.unit]
    columns["batch_sizes"] += 1
    largest_rank = columns["ranks"].max() if "ranks" in columns else 0
    if (columns["batch_sizes"].max(), largest_rank) != (layout.largest_batch, layout.largest_rank):
        raise DataError("damaged: the header of a table of views says of its columns what is not so")
    columns["crops"] = crops_from_integers(columns["crops"], unit)
    columns |= {name: columns[name].astype(bool) for name in ("flips", "labelled")}
    if "lams" in columns:
        columns["lams"] = columns["lams"].astype(np.uint32).view(np.float32)
    if "cutouts" in columns:
        columns["cutouts"] = np.concatenate([columns["cutouts"], columns.pop("colours")], axis=1)
    return ViewTable(num_images=layout.num_images, side=layout.side, crop_unit=unit, **columns)


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
        return table_from_bytes(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
