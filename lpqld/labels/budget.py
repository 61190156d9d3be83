"""The most labels that fit a budget of bytes on disk, known before anything is written."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.byte_sizes import format_bytes
from lpqld.codecs import Codec
from lpqld.errors import ConfigError
from lpqld.labels.compress import EncodedLabels, check_recoverable, encode, smaller_spec
from lpqld.labels.label_set import Labels
from lpqld.labels.manifest import Manifest
from lpqld.labels.shards import HEADER, Shard
from lpqld.storage import canonical_json, fingerprint, packed_size, write_atomically

_NO_CHECKSUM = "0" * 64


class PrefixSizes:
    """Bytes on disk of the first n of `labels` in `codec`, for every n, from one encoding that serves all budgets.

    A shard is encoded when a prefix first reaches it, so small budgets of large sets cost little; with a folder, by the
    first process that asks.
    """

    def __init__(self, labels: Labels, codec: Codec, folder: Path | None = None) -> None:
        """Sizes of `labels`, kept in `folder` where one is given: one folder for each content of labels.

        Raises:
            ConfigError: `codec` would keep more than the labels hold.
        """
        check_recoverable(labels, codec)
        self.labels, self.codec, self._folder = labels, codec, folder
        self._spec = smaller_spec(labels.spec, codec, num_views=labels.spec.num_views)
        self._sizes: list[NDArray[np.int64]] = []  # of each shard's file, by the labels in it

    def num_bytes(self, num_views: int, recipe: dict[str, Any] | None = None) -> int:
        """Bytes of the label set of the first `num_views` labels: `encode(...).num_bytes`, exactly."""
        files = self._files(num_views)
        spec = smaller_spec(self.labels.spec, self.codec, num_views=num_views, recipe=recipe)
        manifest = Manifest(spec, tuple(Shard(size, _NO_CHECKSUM) for size in files))
        return sum(files) + spec.view_bytes + len(manifest.to_bytes())

    def most(self, budget: int, recipe: dict[str, Any] | None = None) -> int:
        """The most labels that fit `budget` bytes on disk, manifest included.

        Raises:
            ConfigError: not even one label per image fits; the message says the smallest budget that works.
        """
        spec = self.labels.spec
        smallest = self.num_bytes(spec.num_images, recipe)
        if smallest > budget:
            raise ConfigError(
                f"budget {format_bytes(budget)} is smaller than one label per image ({spec.num_images} labels in this "
                f"codec); the smallest that works is {smallest} bytes. Raise the budget, or lower k or bits"
            )
        fits = end = spec.num_images
        while end < spec.num_views and self.num_bytes(end, recipe) <= budget:
            fits, end = end, min(spec.num_views, (end // self._spec.shard_views + 1) * self._spec.shard_views)
        candidates = range(fits, end + 1)
        # More labels never take fewer bytes: a payload only grows.
        return candidates[bisect_right(candidates, budget, key=lambda count: self.num_bytes(count, recipe)) - 1]

    def fill(self, budget: int, recipe: dict[str, Any] | None = None) -> EncodedLabels:
        """The label set of the most labels that fit; raises as `most` does."""
        return encode(self.labels, self.codec, num_views=self.most(budget, recipe), recipe=recipe)

    def _files(self, num_views: int) -> list[int]:
        """Bytes of each shard's file, of the first `num_views` labels."""
        spec = self._spec
        full, rest = divmod(num_views, spec.shard_views)
        while len(self._sizes) < full + (rest > 0):
            payload = self._payload(len(self._sizes))
            self._sizes.append(HEADER.size + packed_size(np.arange(len(payload)), spec.number_bits) + payload)
        files = [int(sizes[-1]) for sizes in self._sizes[:full]]
        return [*files, int(self._sizes[full][rest])] if rest else files

    def _payload(self, index: int) -> NDArray[np.int64]:
        """Bytes of shard `index`'s payload, by the labels in it: from the folder, or encoded and put there."""
        spec, path = self._spec, None
        if self._folder is not None:
            # A shard's payload depends on where it begins and ends, and on nothing else of the set.
            key = canonical_json([self.codec.to_json(), spec.shard_views, spec.views_in_shard(index), index])
            path = self._folder / f"{fingerprint(key)[:16]}.bin"
            if path.is_file():
                return np.cumsum(np.frombuffer(zlib.decompress(path.read_bytes()), dtype="<u4"), dtype=np.int64)
        logits, numbers = self.labels.in_shard(spec, index)
        hints = spec.hints_in_shard(index, numbers)
        payload = self.codec.sizes(logits, num_classes=spec.num_classes, hints=hints)
        if path is not None:
            write_atomically(path, zlib.compress(np.diff(payload, prepend=0).astype("<u4").tobytes(), level=1))
        return payload


def fill_budget(labels: Labels, codec: Codec, budget: int, recipe: dict[str, Any] | None = None) -> EncodedLabels:
    """The most labels that fit `budget` bytes on disk, manifest included.

    Raises:
        ConfigError: not even one label per image fits; the message says the smallest budget that works.
    """
    return PrefixSizes(labels, codec).fill(budget, recipe)
