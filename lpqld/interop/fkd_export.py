"""Label sets as FKD-style folders, which the reference code of SRe2L, LPLD and LPQLD reads."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.interop.fkd_folder import BATCH_INDICES, EPOCH_INDICES
from lpqld.labels import Labels, LabelSpec
from lpqld.storage import Location, write_atomically
from lpqld.views import TableOfViews, ViewTable

LAYOUTS = ("batches", "epochs")
_NARROW_BATCH, _NARROW_SIDE, _NARROW_CLASSES = 2**8, 2**8 - 1, 2**15


@dataclass(frozen=True)
class Exported:
    """A written folder.

    Attributes:
        num_batches: files in it.
        num_bytes: of them.
        notes: what the layout does not hold as the label set does; empty where it holds all.
    """

    num_batches: int
    num_bytes: int
    notes: tuple[str, ...]


def export_fkd(labels: Labels, images: Callable[[], ImageSet], out: Location, layout: str = "batches") -> Exported:
    """Write labels as `batch_*.tar` files beside an index of their images, or a folder of them an epoch.

    An imported set comes back as it was. Views that lpqld drew are written where the layout can say them: without
    mixing, since it has one box a batch.

    Args:
        labels: of whole batches.
        images: opens the images of the labels; not called for an imported set.
        out: a new or empty folder.
        layout: "batches" (LPQLD), or "epochs" (SRe2L, LPLD), in each of which every image comes once.

    Raises:
        ConfigError: the layout cannot hold these labels; the message says why.
        DataError: the images are not those of the labels.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout} of fkd is not known: expected {' or '.join(LAYOUTS)}")
    spec = labels.spec
    if not spec.codec.holds_logits or labels.logits.absent is not None:
        raise ConfigError(f"fkd holds logits, all or the k largest, and nothing else: not those of {spec.codec.name}")
    table, positions = _table_of(labels, images)
    places = _files(table, layout, spec.num_images)
    num_bytes = 0
    for number, (place, start) in enumerate(zip(places, table.batch_starts, strict=True)):
        logits = labels.take(positions[start : start + table.batch_sizes[number]])
        content = _batch(table, number, logits.ids, logits.values, spec.num_classes, layout)
        write_atomically(out / place, content)
        num_bytes += len(content)
    _write_index(table, layout, out)
    return Exported(len(places), num_bytes, _notes(spec))


def _table_of(labels: Labels, images: Callable[[], ImageSet]) -> TableOfViews:
    """The views in batches, every one with a label."""
    spec = labels.spec
    if not spec.views.in_batches:
        raise ConfigError(
            f"fkd has one box and one lambda a batch, and mixes a view with others of its batch; lpqld draws "
            f"{spec.view_rule.mix} anew for each view, with any image. Train on these labels with `train` or "
            f"lpqld.ViewDataset, or export them with `export_format=parquet`"
        )
    batches = spec.views.as_table(lambda: labels.views_of(images()), spec.num_views, spec.batch_size)
    labelled = batches.table.labelled
    if not labelled.all():
        raise ConfigError(
            f"fkd holds whole batches with a label for each view; this set was pruned view by view and has none "
            f"for {(~labelled).sum()} views that are mixed into others. Export it unpruned"
        )
    return batches


def _notes(spec: LabelSpec) -> tuple[str, ...]:
    """What the layout does not hold as the label set does."""
    notes = []
    if not spec.views.as_pillow:
        notes.append("crops are on whole pixels there and resized by Pillow: labels were made on slightly other views")
    if spec.codec.keeps_largest and spec.codec.value_step is not None:
        notes.append("values in steps are written as fp16")
    return tuple(notes)


def _write_index(table: ViewTable, layout: str, out: Location) -> None:
    """The file that lists the images of each batch, or of each epoch."""
    if layout == "batches":
        name, parts = BATCH_INDICES, np.split(table.rows, table.batch_starts[1:])
    else:
        name, parts = EPOCH_INDICES, list(table.rows.reshape(-1, table.num_images))
    index = {str(number): rows.tolist() for number, rows in enumerate(parts)}
    write_atomically(out / name, json.dumps(index).encode())


def _files(table: ViewTable, layout: str, num_images: int) -> list[str]:
    """Where each batch goes."""
    count = len(table.batch_sizes)
    if layout == "batches":
        return [f"batch_{number}.tar" for number in range(count)]
    epochs, rest = divmod(len(table), num_images)
    per_epoch, uneven = divmod(count, max(1, epochs))
    whole = (
        not rest
        and not uneven
        and all(len(np.unique(rows)) == num_images for rows in table.rows.reshape(-1, num_images))
    )
    size = -(-num_images // max(1, per_epoch))
    expected = np.minimum(size, num_images - np.arange(per_epoch) * size)
    if not whole or not np.array_equal(table.batch_sizes, np.tile(expected, epochs)):
        raise ConfigError("layout epochs: these batches are not epochs, in each of which every image comes once")
    return [f"epoch_{number // per_epoch}/batch_{number % per_epoch}.tar" for number in range(count)]


def _batch(
    table: ViewTable,
    number: int,
    ids: NDArray[np.int32],
    values: NDArray[np.float32],
    num_classes: int,
    layout: str,
) -> bytes:
    """A batch's file."""
    start = table.batch_starts[number]
    some, count = slice(start, start + table.batch_sizes[number]), int(table.batch_sizes[number])
    crops = torch.from_numpy(table.crop_shares[some].copy())
    second: Any = torch.from_numpy(table.flips[some].copy())
    if table.cutouts is not None:
        cutouts = table.cutouts[some].astype(np.float32)
        second = torch.from_numpy(np.concatenate([cutouts[:, :4] / table.side, cutouts[:, 4:]], axis=1))
    partners, lam, box = None, None, None
    if table.partners is not None and table.lams is not None:
        narrow = layout == "batches" and count <= _NARROW_BATCH
        partners = torch.from_numpy(table.partners[some].astype(np.uint8 if narrow else np.int64))
        lam = float(table.lams[number])
    if table.boxes is not None:
        box = table.boxes[number].tolist()
        if layout == "batches" and table.side <= _NARROW_SIDE:
            box = [torch.tensor(edge, dtype=torch.uint8) for edge in box]
    logits = values.astype(np.float16)
    everything = ids.shape[1] == num_classes
    if everything:
        logits = np.take_along_axis(logits, np.argsort(ids, axis=1), axis=1)
    crops = crops.half() if layout == "batches" else crops
    fields: list[Any] = [crops, second, partners, lam, box, torch.from_numpy(logits)]
    if not everything:
        fields.append(torch.from_numpy(ids.astype(np.int16 if num_classes <= _NARROW_CLASSES else np.int32)))
    sink = io.BytesIO()
    torch.save(fields, sink)
    return sink.getvalue()
