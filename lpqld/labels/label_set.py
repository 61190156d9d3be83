"""Label sets: decoded in memory (`Labels`), or a folder of shards with a manifest (`LabelSet`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Logits
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.labels.manifest import MANIFEST_FILE, Manifest
from lpqld.labels.shards import SHARD_SUFFIX, ShardLabels, read_shard, shard_file
from lpqld.labels.source import DeviceLogits
from lpqld.labels.spec import LabelSpec
from lpqld.storage import TEMPORARY_SUFFIX, Location, RemotePath, file_sizes, location
from lpqld.views import Views


@dataclass(frozen=True)
class Labels:
    """The decoded labels of `spec.num_views` views, in the order of `views.Views`.

    Pickled out of band, as Ray does, labels and their copies are one piece of memory.

    `numbers`, int64 [num_views], are the view numbers where views were selected (`spec.select`), else None: then
    position p has view p // num_images.
    """

    spec: LabelSpec
    logits: Logits
    numbers: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if (self.numbers is None) != (self.spec.select is None):
            raise ConfigError(f"labels have view numbers where views were selected, only there: {self.spec.select!r}")

    def __getstate__(self) -> dict[str, Any]:
        # Pickled as they are, ids that are one row in memory would take as much as the values.
        ids, values, absent = self.logits
        return {**self.__dict__, "logits": (ids[:1] if self.logits.one_row else ids, values, absent)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ids, values, absent = state["logits"]
        self.__dict__.update(state, logits=Logits(np.broadcast_to(ids, values.shape), values, absent))

    @classmethod
    def of_shards(cls, spec: LabelSpec, parts: Iterable[ShardLabels], *, as_stored: bool = False) -> Labels:
        """All shards' labels together; of `parts`, one is needed at a time.

        Args:
            as_stored: hold values that are fp16 in the shards as fp16, in half the memory.
        """
        half = as_stored and spec.codec.stores_half
        room: Logits | None = None
        numbers, start = [], 0
        for part in parts:
            found, some = part.logits, slice(start, start + len(part.logits.values))
            if room is None:
                room = _room_for(found, spec.num_views, np.float16 if half else np.float32)
            room.values[some] = found.values
            if not room.one_row:
                room.ids[some] = found.ids
            if room.absent is not None:
                room.absent[some] = found.absent
            if part.numbers is not None:
                numbers.append(part.numbers)
            start = some.stop
        assert room is not None, "a label set has a shard"
        return cls(spec, room, np.concatenate(numbers) if numbers else None)

    def take(self, positions: NDArray[np.int64]) -> Logits:
        """The labels at `positions` [B], values as float32."""
        chosen = self.logits.take(positions)
        return chosen._replace(values=chosen.values.astype(np.float32, copy=False))

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """The labels at `positions` [B], on the device of `views`."""
        return DeviceLogits.of(self.take(positions), views.device)

    def in_shard(self, spec: LabelSpec, index: int) -> ShardLabels:
        """What shard `index` holds of a set of `spec`, whose labels are the first ones of these."""
        start = index * spec.shard_views
        where = slice(start, start + spec.views_in_shard(index))
        return ShardLabels(self.logits.take(where), None if self.numbers is None else self.numbers[where])

    def numbers_of(self, spec: LabelSpec) -> NDArray[np.int64] | None:
        """`numbers` of a set of `spec`, whose labels are the first ones of these."""
        return None if self.numbers is None else self.numbers[: spec.num_views]

    @property
    def num_labels(self) -> int:
        """How many labels there are."""
        return self.spec.num_views

    def prepared(self) -> Labels:
        """These: labels in memory are read where they are."""
        return self

    @property
    def view_numbers(self) -> NDArray[np.int64]:
        """The number of each label's view, int64 [num_views]."""
        if self.numbers is not None:
            return self.numbers
        return self.spec.views.view_numbers(self.spec.num_images, self.spec.num_views)

    @property
    def view_keys(self) -> NDArray[Any]:
        """What tells each label's view from all others, [num_views]; see `ViewOrder.keys`."""
        return self.spec.view_order(self.numbers).keys(np.arange(self.spec.num_views))

    def images_of(self, images: ImageSet) -> ImageSet:
        """The images that these labels were made for, in their order, out of `images`.

        Raises:
            DataError: they are not there; the message holds both fingerprints.
        """
        return select_images(self.spec, images)

    def views_of(self, images: ImageSet) -> Views:
        """The views of these labels, by position; `images` as in `images_of`, which are then `Views.images`."""
        return views_of(self.spec, images, self.numbers)


@dataclass(frozen=True)
class LabelSet:
    """A finished label set on disk or on shared storage. Reading verifies what it reads."""

    folder: Location
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | RemotePath) -> LabelSet:
        """Open the label set in `folder`, a path or a URI such as `s3://bucket/labels`.

        Raises:
            ConfigError: there is no such folder, or its storage cannot be used.
            DataError: it holds no finished label set, or a damaged manifest.
        """
        path = location(folder)
        if not path.is_dir():
            raise ConfigError(f"label set {path}: no such folder; `relabel` and `export` make label sets")
        return cls(path, Manifest.read(path))

    @property
    def spec(self) -> LabelSpec:
        """What the manifest says."""
        return self.manifest.spec

    def shards(self) -> Iterator[ShardLabels]:
        """The labels, one shard in memory at a time."""
        for index, shard in enumerate(self.manifest.shards):
            yield read_shard(self.folder, self.spec, index, shard)

    @cached_property
    def labels(self) -> Labels:
        """All labels, decoded and verified."""
        return Labels.of_shards(self.spec, self.shards())

    @property
    def files(self) -> list[str]:
        """The names of its files, the manifest last."""
        return [*map(shard_file, range(self.spec.num_shards)), *self.spec.views.file_names, MANIFEST_FILE]

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes on disk: all files of the folder, the shards, the manifest."""
        files = file_sizes(self.folder)
        views = {"views": sum(files[name] for name in names)} if (names := self.spec.views.file_names) else {}
        return {
            "total": sum(files.values()),
            "payload": sum(shard.num_bytes for shard in self.manifest.shards),
            **views,
            "manifest": files[MANIFEST_FILE],
        }

    def images_of(self, images: ImageSet) -> ImageSet:
        """The images that these labels were made for, in their order, out of `images`; see `Labels.images_of`."""
        return select_images(self.spec, images)

    @property
    def num_labels(self) -> int:
        """How many labels there are."""
        return self.spec.num_views

    def views_of(self, images: ImageSet) -> Views:
        """The views of these labels, see `Labels.views_of`."""
        return self.labels.views_of(images)

    def prepared(self) -> Labels:
        """All labels, decoded."""
        return self.labels

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """The labels at `positions` [B], on the device of `views`."""
        return self.labels.labels_at(positions, views, image_labels)

    def verify(self) -> None:
        """Check every byte.

        Raises:
            DataError: naming the first file that is damaged, missing, or does not belong here.
        """
        for _ in self.shards():
            pass
        found = {path.name for path in self.folder.glob(f"*{SHARD_SUFFIX}")}
        for name in sorted(found.difference(self.files)):
            raise DataError(f"{self.folder / name}: not in the manifest; a foreign or left-over shard, move it away")
        for path in sorted(self.folder.glob(f".*{TEMPORARY_SUFFIX}")):
            raise DataError(f"{path}: left over from an interrupted job; delete it")


def _room_for(part: Logits, num_views: int, dtype: type[np.floating[Any]]) -> Logits:
    """Room for the labels of all shards, from those of one."""
    shape = (num_views, part.values.shape[1])
    ids = np.broadcast_to(part.ids[:1], shape) if part.one_row else np.empty(shape, dtype=np.int32)
    absent = None if part.absent is None else np.empty((num_views, 2), dtype=np.float32)
    return Logits(ids, np.empty(shape, dtype=dtype), absent)


def views_of(spec: LabelSpec, images: ImageSet, numbers: NDArray[np.int64] | None) -> Views:
    """The views of labels of `spec`, out of `images`; `numbers` where they were selected."""
    return spec.views.of(select_images(spec, images), numbers)


def select_images(spec: LabelSpec, images: ImageSet) -> ImageSet:
    """The images that labels of `spec` were made for, out of `images`."""
    if images.num_classes != spec.num_classes:
        raise DataError(
            f"{images.source}: {images.num_classes} classes, the labels were made for {spec.num_classes}; "
            f"fingerprints {images.fingerprint} and {spec.images.fingerprint}. Pass the images of the labels"
        )
    return images.select(spec.image_ids, spec.images.fingerprint)
