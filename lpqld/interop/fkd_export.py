"""Label sets as FKD-style folders, which the reference code of SRe2L, LPLD and LPQLD reads."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from lpqld.interop.fkd_folder import BATCH_INDICES, EPOCH_INDICES
from lpqld.labels import Labels
from lpqld.storage import Location, write_atomically
from lpqld.views import Views, ViewTable

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


def export_fkd(labels: Labels, views: Views | None, out: Location, layout: str = "batches") -> Exported:
    """Write labels as `batch_*.tar` files beside an index of their images, or a folder of them an epoch.

    An imported set comes back as it was. Views that lpqld drew are written where the layout can say them: without
    mixing, since it has one box a batch.

    Args:
        labels: of whole batches.
        views: theirs, where lpqld drew them (`Labels.views_of`); not needed for an imported set.
        out: a new or empty folder.
        layout: "batches" (LPQLD), or "epochs" (SRe2L, LPLD), in each of which every image comes once.

    Raises:
        ConfigError: the layout cannot hold these labels; the message says why.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout} of fkd is not known: expected {' or '.join(LAYOUTS)}")
    spec = labels.spec
    if not spec.codec.holds_logits or labels.logits.absent is not None:
        raise ConfigError(f"fkd holds logits, all or the k largest, and nothing else: not those of {spec.codec.name}")
    notes: list[str] = []
    if spec.table is not None:
        table = spec.table
        if not table.labelled.all():
            raise ConfigError(
                f"fkd holds whole batches with a label for each view; this set was pruned view by view and has none "
                f"for {(~table.labelled).sum()} views that are mixed into others. Export it unpruned"
            )
    else:
        assert views is not None, "views that were drawn are needed"
        table = _table_of(views, labels)
        notes.append("crops are on whole pixels there and resized by Pillow: labels were made on slightly other views")
    if spec.codec.keeps_largest and spec.codec.value_step is not None:
        notes.append("values in steps are written as fp16")
    images = np.split(table.rows, table.batch_starts[1:])
    num_bytes = 0
    places = _files(table, layout, len(labels.spec.image_ids))
    order = np.arange(len(table)) if spec.table is None else table.positions
    for number, (place, start) in enumerate(zip(places, table.batch_starts, strict=True)):
        logits = labels.take(order[start : start + table.batch_sizes[number]])
        content = _batch(table, number, logits.ids, logits.values, spec.num_classes, layout)
        write_atomically(out / place, content)
        num_bytes += len(content)
    index: dict[str, list[int]] = {str(number): rows.tolist() for number, rows in enumerate(images)}
    if layout == "epochs":
        index = {str(epoch): rows.tolist() for epoch, rows in enumerate(table.rows.reshape(-1, spec.num_images))}
    name = BATCH_INDICES if layout == "batches" else EPOCH_INDICES
    write_atomically(out / name, json.dumps(index).encode())
    return Exported(len(places), num_bytes, tuple(notes))


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
    found: list[Any] = [crops, second, partners, lam, box, torch.from_numpy(logits)]
    if not everything:
        found.append(torch.from_numpy(ids.astype(np.int16 if num_classes <= _NARROW_CLASSES else np.int32)))
    sink = io.BytesIO()
    torch.save(found, sink)
    return sink.getvalue()


def _table_of(views: Views, labels: Labels) -> ViewTable:
    """Views that lpqld drew, as batches of the set's batch size, by position."""
    spec = labels.spec
    if spec.view_rule.mix != "none":
        raise ConfigError(
            f"fkd has one box and one lambda a batch, and mixes a view with others of its batch; lpqld draws "
            f"{spec.view_rule.mix} anew for each view, with any image. Train on these labels with `train` or "
            f"lpqld.ViewDataset, or export them with `export_format=parquet`"
        )
    params, side = views.draw(np.arange(spec.num_views)), views.images.size
    count = len(params)
    sizes = np.array([len(part) for part in np.array_split(np.arange(count), max(1, round(count / spec.batch_size)))])
    crops = np.rint(params.crop * np.float32(side))
    crops[:, 2:] = np.maximum(crops[:, 2:], 1)
    crops[:, :2] = np.minimum(crops[:, :2], side - crops[:, 2:])
    cutouts = None
    if spec.view_rule.cutout:
        cutouts = _centred(params.cutout, params.color, side)
    return ViewTable(
        num_images=spec.num_images,
        side=side,
        rows=params.rows,
        crops=crops,
        crop_unit="pixel",
        flips=params.flip,
        labelled=np.ones(count, dtype=bool),
        batch_sizes=sizes,
        cutouts=cutouts,
    )


def _centred(boxes: NDArray[np.float32], colours: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """Clipped boxes of half the side, as a centre and a size, and colours from 0 to 255: [B, 7]."""
    half = side // 2
    start = np.rint(boxes[:, :2] * np.float32(side)).astype(np.int64)
    end = start + np.rint(boxes[:, 2:] * np.float32(side)).astype(np.int64)
    centres = np.where(start > 0, start + half // 2, end - half // 2).clip(0, side)
    sizes = np.full_like(centres, half)
    return np.concatenate([centres, sizes, np.rint(colours * 255).astype(np.int64)], axis=1)
