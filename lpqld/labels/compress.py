"""Smaller label sets from larger ones: fewer views, fewer logits, fewer bits; never more than is stored."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Codec, Logits, codec_for, default_codec_name
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels.label_set import Labels, views_of
from lpqld.labels.manifest import MANIFEST_FILE, Manifest
from lpqld.labels.shards import Shard, decode_shard, encode_shard, shard_file
from lpqld.labels.source import DeviceLogits
from lpqld.labels.spec import LabelSpec
from lpqld.storage import RemotePath, location, sweep_temporary_files, write_atomically
from lpqld.views import VIEW_FILES, Views

# A shard of a set that is made from another: at most so many labels, and logits (64 MiB decoded).
_SHARD_VIEWS, _SHARD_LOGITS = 2**16, 2**23
_CHUNK_LOGITS = 2**20
_HELD_BYTES, _BYTES_PER_LOGIT = 2**24, 8


@dataclass(frozen=True)
class EncodedLabels:
    """A label set in memory, byte for byte what `write` puts on disk."""

    spec: LabelSpec
    shards: tuple[bytes, ...]

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of these shards."""
        return Manifest(self.spec, tuple(Shard.of(content) for content in self.shards))

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, the manifest included."""
        return sum(map(len, self.shards)) + self.spec.view_bytes + len(self.manifest.to_bytes())

    def decode(self) -> Labels:
        """The labels as a reader of the written files gets them."""
        parts = [decode_shard(self.spec, index, content) for index, content in enumerate(self.shards)]
        return Labels.of_shards(self.spec, parts)

    def write(self, out: str | os.PathLike[str] | RemotePath) -> None:
        """Write shards, then the manifest, into an empty or new folder, a path or a URI.

        Raises:
            ConfigError: the folder holds other files, or cannot be written.
        """
        folder = location(out)
        manifest = self.manifest.to_bytes()
        if folder.is_dir():
            sweep_temporary_files(folder)
            expected = {MANIFEST_FILE, *VIEW_FILES, *map(shard_file, range(len(self.shards)))}
            others = sorted(path.name for path in folder.iterdir() if path.name not in expected)
            if others or ((folder / MANIFEST_FILE).exists() and (folder / MANIFEST_FILE).read_bytes() != manifest):
                raise ConfigError(
                    f"{folder} is not empty ({', '.join(others or [MANIFEST_FILE])}); choose a new folder"
                )
        for index, content in enumerate(self.shards):
            write_atomically(folder / shard_file(index), content)
        for name, content in self.spec.views.files().items():
            write_atomically(folder / name, content)
        write_atomically(folder / MANIFEST_FILE, manifest)


def encode(
    labels: Labels, codec: Codec, *, num_views: int | None = None, recipe: dict[str, Any] | None = None
) -> EncodedLabels:
    """The first `num_views` labels (default: all) in `codec`.

    Raises:
        ConfigError: more than the labels hold of views, classes or precision, or fewer labels than images.
    """
    spec = _spec_of_first(labels, codec, num_views, recipe)
    shards = (encode_shard(spec, index, *labels.in_shard(spec, index)) for index in range(spec.num_shards))
    return EncodedLabels(spec, tuple(shards))


def _spec_of_first(labels: Labels, codec: Codec, num_views: int | None, recipe: dict[str, Any] | None) -> LabelSpec:
    """The specification of the first `num_views` labels in `codec`, where those hold as much."""
    source = labels.spec
    count = source.num_views if num_views is None else num_views
    if not source.num_images <= count <= source.num_views:
        raise ConfigError(
            f"cannot keep {count} labels: the set has {source.num_views} and {source.num_images} images need one each"
        )
    check_recoverable(labels, codec)
    return smaller_spec(source, codec, num_views=count, recipe=recipe)


@dataclass(frozen=True)
class RecodedLabels:
    """Labels of `spec` that are a view of a larger set: each is made from the set's when it is read.

    They are what `encode(labels, ...).decode()` gives, without the bytes, and without memory of their own.
    """

    spec: LabelSpec
    labels: Labels

    def take(self, positions: NDArray[np.int64]) -> Logits:
        """The labels at `positions` [B]."""
        if len(positions) and not -self.spec.num_views <= positions.min() <= positions.max() < self.spec.num_views:
            raise IndexError(f"positions {positions.min()} to {positions.max()} of {self.spec.num_views} labels")
        hints = self.spec.image_classes_at(positions)[:, None]
        source, num_classes = self.labels.logits.take(positions), self.spec.num_classes
        return self.spec.codec.roundtrip(source, num_classes=num_classes, hints=hints)

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """The labels at `positions` [B], on the device of `views`."""
        return DeviceLogits.of(self.take(positions), views.device)

    @property
    def num_labels(self) -> int:
        """How many labels there are."""
        return self.spec.num_views

    def prepared(self) -> RecodedLabels | Labels:
        """Small sets in memory of their own: made once, they cost less than again and again."""
        held_bytes = self.spec.num_views * self.spec.codec.kept(self.spec.num_classes) * _BYTES_PER_LOGIT
        return self.held() if held_bytes <= _HELD_BYTES else self

    def held(self) -> Labels:
        """All of them, in memory of their own."""
        chunk = max(1, _CHUNK_LOGITS // self.labels.logits.values.shape[1])
        starts = range(0, self.spec.num_views, chunk)
        parts = [self.take(np.arange(start, min(start + chunk, self.spec.num_views))) for start in starts]
        return Labels(self.spec, Logits.concatenate(parts), self.labels.numbers_of(self.spec))

    def views_of(self, images: ImageSet) -> Views:
        """The views of these labels, see `Labels.views_of`."""
        return views_of(self.spec, images, self.labels.numbers_of(self.spec))


def recode(
    labels: Labels, codec: Codec, *, num_views: int | None = None, recipe: dict[str, Any] | None = None
) -> RecodedLabels:
    """The first `num_views` labels (default: all) as `codec` gives them back; see `encode`, which raises as this."""
    return RecodedLabels(_spec_of_first(labels, codec, num_views, recipe), labels)


def smaller_spec(source: LabelSpec, codec: Codec, *, num_views: int, recipe: dict[str, Any] | None = None) -> LabelSpec:
    """The specification of the first `num_views` labels of a set in `codec`.

    Its shards are longer where its labels are smaller: a codec that learns does so anew in each.
    """
    merged = max(1, min(_SHARD_VIEWS, _SHARD_LOGITS // codec.kept(source.num_classes)) // source.shard_views)
    return replace(
        source,
        codec=codec,
        num_views=num_views,
        recipe=recipe,
        shard_views=source.shard_views * merged,
        views=source.views.first(num_views),
    )


def check_recoverable(labels: Labels, codec: Codec) -> None:
    """Refuse a codec that would keep more than `labels` hold.

    Raises:
        ConfigError: it keeps more classes, or finer values; the message says what is stored.
    """
    num_classes, stored = labels.spec.num_classes, labels.logits.ids.shape[1]
    kept = codec.kept(num_classes)
    if kept > stored:
        asked = f"codec {codec.name}" if kept == num_classes else f"k={kept}"
        raise ConfigError(f"these labels keep {stored} of {num_classes} classes; {asked} cannot bring the rest back")
    source, step = labels.spec.codec.value_step, codec.value_step
    if source is not None and (codec.stores_half or (step is not None and step < source)):
        asked = "fp16" if step is None else f"a step of {step:g}"
        raise ConfigError(f"these labels are stored in steps of {source:g}; {asked} cannot bring finer values back")


def smaller_codec(labels: Labels, *, name: str | None = None, k: int | None = None, bits: int | None = None) -> Codec:
    """The codec that a name, `k` and `bits` ask for; what is not given stays as these labels have it.

    Raises:
        ConfigError: it would keep more than the labels hold, or an argument is out of range.
    """
    source, num_classes = labels.spec.codec, labels.spec.num_classes
    if name is None and k is None and bits is None:
        return source
    chosen = name or default_codec_name(k, source)
    codec = codec_for(chosen, k=k, bits=bits or 16, num_classes=num_classes, pilot=labels.logits)
    if name is None:
        codec = codec.like(source)
    step = source.value_step
    if step is not None and (bits is None or bits == _stored_bits(labels, codec.kept(num_classes), step)):
        codec = codec.with_step(step)
    check_recoverable(labels, codec)
    return codec


def _stored_bits(labels: Labels, k: int, step: float) -> int:
    """Bits that the distance of any of the k largest values below its label's largest takes, in steps."""
    largest = -np.partition(-labels.logits.values, k - 1, axis=1)[:, :k]
    widest = float((largest.max(axis=1) - largest.min(axis=1)).max(initial=0.0))
    return max(2, round(widest / step).bit_length())


def keep_share(num_images: int, full_views: int, prune_ratio: float) -> int:
    """Labels kept at `prune_ratio`: round(N * V * (1 - P)), at least one per image.

    Raises:
        ConfigError: a ratio outside [0, 1), or one that leaves less than one label per image.
    """
    if not 0 <= prune_ratio < 1:
        raise ConfigError(f"prune ratio must be in [0, 1), found {prune_ratio}")
    kept = round(num_images * full_views * (1 - prune_ratio))
    if kept < num_images:
        most = math.floor((1 - 1 / full_views) * 1e4) / 1e4  # rounded up, it would be refused too
        raise ConfigError(
            f"prune ratio {prune_ratio} leaves {kept} labels for {num_images} images; the largest is {most:.4f}"
        )
    return kept
