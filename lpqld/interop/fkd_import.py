"""FKD-style label folders as label sets: every view's parameters in a table, every logit as it was stored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Dense, Logits, TopK, dense_ids
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.interop.fkd_batch import FkdBatch
from lpqld.interop.fkd_folder import SAMPLER_SEED, FkdFolder, view_table
from lpqld.labels import (
    MANIFEST_FILE,
    SHARD_SUFFIX,
    UNKNOWN_TEACHER,
    ImagesRef,
    LabelSet,
    LabelSpec,
    Manifest,
    Shard,
    TeacherRef,
    encode_shard,
    shard_file,
    shard_size,
)
from lpqld.progress import SILENT, Progress
from lpqld.storage import TEMPORARY_SUFFIX, Location, write_atomically
from lpqld.views import RecordedSource, ViewRule, ViewTable

_AT_ONCE = 4096


@dataclass(frozen=True)
class Imported:
    """An imported label set.

    Attributes:
        label_set: on disk.
        source_bytes: of the batch files that it was made from.
        agreement: share of labels whose largest logit is of the class of the view's image or of its partner. Where it
            is no better than a guess, classes are in another order than in the images.
        order: where the order of images came from.
    """

    label_set: LabelSet
    source_bytes: int
    agreement: float
    order: str


def import_fkd(
    source: Path,
    images: ImageSet,
    out: Location,
    *,
    seed: int = SAMPLER_SEED,
    teacher: TeacherRef = UNKNOWN_TEACHER,
    progress: Progress = SILENT,
) -> Imported:
    """Read a label folder of SRe2L, CDA, LPLD, LPQLD and the like; nothing in it is executed.

    Memory holds one batch and the parameters of all views (about 60 bytes each); logits wait in a temporary file.

    Args:
        source: the folder, see `fkd.FkdFolder`.
        images: those that the labels were made for, in the order of class folders and file names.
        out: a new or empty folder.
        seed: of the sampler, where the folder does not say the order.
        teacher: that made the labels, where it is known.
        progress: told of batches done.

    Raises:
        DataError: naming the file that is missing, damaged, harmful or of other images.
        ConfigError: `out` holds other files.
    """
    _check_free(out)
    folder = FkdFolder.open(source, images.num_images, seed=seed)
    with tempfile.TemporaryDirectory(prefix="lpqld-import-") as scratch:
        logits = _ScratchLogits(Path(scratch), sum(len(rows) for rows in folder.images), images.num_classes)
        batches = logits.reading(folder.batches(side=images.size, num_classes=images.num_classes), folder, progress)
        table = view_table(folder, batches, images.num_images, images.size)
        _check_covers(table, folder)
        spec = _specify(folder, table, images, logits, teacher)
        label_set = _write(spec, table, logits, out)
        agreement = _agreement(spec, table, logits)
    return Imported(label_set, sum(file.stat().st_size for file in folder.files), agreement, folder.order)


def _check_free(out: Location) -> None:
    """Refuse a folder that holds anything but what an interrupted import left there."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; choose a new folder")
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    if any(name == MANIFEST_FILE or not name.endswith((SHARD_SUFFIX, TEMPORARY_SUFFIX)) for name in names):
        raise ConfigError(f"{out} is not empty; choose a new folder")
    for name in names:
        (out / name).unlink()


class _ScratchLogits:
    """The logits of all views in recorded order, in files."""

    def __init__(self, folder: Path, num_views: int, num_classes: int) -> None:
        self._folder, self.num_views, self.num_classes = folder, num_views, num_classes
        self.values: NDArray[Any] = np.empty((0, 0), dtype=np.float16)
        self.ids: NDArray[Any] | None = None

    def reading(self, batches: Iterator[FkdBatch], folder: FkdFolder, progress: Progress) -> Iterator[FkdBatch]:
        """Pass batches on, and keep their logits."""
        start, total = 0, len(folder.files)
        for number, batch in enumerate(batches):
            if number == 0:
                self._make_room(batch)
            stored = batch.logits.shape[1], batch.ids is None
            expected = self.values.shape[1], self.ids is None
            if stored != expected:
                raise DataError(
                    f"{folder.files[number]}: {stored[0]} logits of a view, in the batches before {expected[0]}; a "
                    f"label set keeps as many of each"
                )
            self.values[start : start + len(batch)] = batch.logits
            if self.ids is not None:
                self.ids[start : start + len(batch)] = batch.ids
            start += len(batch)
            progress.progress("import", number + 1, total)
            yield batch

    def _make_room(self, batch: FkdBatch) -> None:
        shape = (self.num_views, batch.logits.shape[1])
        self.values = np.lib.format.open_memmap(self._folder / "values.npy", "w+", np.float16, shape)
        if batch.ids is not None:
            self.ids = np.lib.format.open_memmap(self._folder / "ids.npy", "w+", np.int32, shape)

    def take(self, views: NDArray[np.int64]) -> Logits:
        """The labels of some views, largest logit first."""
        values = self.values[views].astype(np.float32)
        if self.ids is None:
            return Logits(dense_ids(*values.shape), values)
        ids = self.ids[views]
        order = np.argsort(-values, axis=1, kind="stable")
        return Logits(np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1))


def _check_covers(table: ViewTable, folder: FkdFolder) -> None:
    """Refuse fewer labels than images: a set has at least one each on average."""
    if len(table) < table.num_images:
        raise DataError(
            f"{folder.folder}: {len(table)} labels of {table.num_images} images; expected at least one an image. Pass "
            f"`images` with the images that these labels were made for"
        )


def _specify(
    folder: FkdFolder, table: ViewTable, images: ImageSet, logits: _ScratchLogits, teacher: TeacherRef
) -> LabelSpec:
    codec = Dense() if logits.ids is None else TopK(logits.values.shape[1])
    batch_size = int(np.median(table.batch_sizes))
    mix: Literal["none", "mixup", "cutmix"] = "none"
    if table.partners is not None:
        mix = "mixup" if table.boxes is None else "cutmix"
    rule = ViewRule(flip=bool(table.flips.any()), mix=mix, cutout=table.cutouts is not None)
    return LabelSpec(
        num_images=images.num_images,
        num_classes=images.num_classes,
        num_views=len(table),
        full_views=max(folder.num_epochs, -(-len(table) // images.num_images)),
        codec=codec,
        views=RecordedSource(rule, 0, table),
        batch_size=batch_size,
        shard_views=shard_size(len(table), batch_size, codec.kept(images.num_classes)),
        images=ImagesRef.of(images),
        teacher=teacher,
    )


def _write(spec: LabelSpec, table: ViewTable, logits: _ScratchLogits, out: Location) -> LabelSet:
    """Shards one at a time, the table, then the manifest."""
    shards = []
    for index in range(spec.num_shards):
        start = index * spec.shard_views
        views = table.order[start : start + spec.views_in_shard(index)]
        content = encode_shard(spec, index, logits.take(views))
        write_atomically(out / shard_file(index), content)
        shards.append(Shard.of(content))
    for name, content in spec.views.files().items():
        write_atomically(out / name, content)
    write_atomically(out / MANIFEST_FILE, Manifest(spec, tuple(shards)).to_bytes())
    return LabelSet.open(out)


def _agreement(spec: LabelSpec, table: ViewTable, logits: _ScratchLogits) -> float:
    classes, agreeing = spec.image_classes, 0
    for start in range(0, len(table), _AT_ONCE):
        views = np.arange(start, min(start + _AT_ONCE, len(table)))
        values = logits.values[views]
        best = values.argmax(axis=1)
        if logits.ids is not None:
            best = np.take_along_axis(logits.ids[views], best[:, None], axis=1)[:, 0]
        own, partner = classes[table.rows[views]], classes[table.rows[table.partner_views[views]]]
        agreeing += int(((best == own) | (best == partner)).sum())
    return agreeing / len(table)
