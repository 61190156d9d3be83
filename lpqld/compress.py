"""Smaller label sets from larger ones: fewer views, fewer logits, fewer bits, and the most that fits a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count as count_from
from pathlib import Path
from typing import Any

from lpqld.codec import Codec, Dense
from lpqld.errors import ConfigError
from lpqld.labels import Labels
from lpqld.manifest import MANIFEST_FILE, LabelSpec, Manifest
from lpqld.shards import concatenate, decode_shard, describe_shard, encode_shard, shard_file
from lpqld.sizes import format_bytes
from lpqld.store import sweep_temporary_files, write_atomically

_SLOPES_ALONE = 5


@dataclass(frozen=True)
class EncodedLabels:
    """A label set in memory, byte for byte what `write` puts on disk."""

    spec: LabelSpec
    shards: tuple[bytes, ...]

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of these shards."""
        sizes = self.spec.shard_sizes
        entries = (describe_shard(i, content, sizes[i]) for i, content in enumerate(self.shards))
        return Manifest(self.spec, tuple(entries))

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, the manifest included."""
        return sum(len(content) for content in self.shards) + len(self.manifest.to_bytes())

    def decode(self) -> Labels:
        """The labels as a reader of the written files gets them."""
        sizes = self.spec.shard_sizes
        parts = [decode_shard(self.spec, i, content, sizes[i]) for i, content in enumerate(self.shards)]
        return Labels(self.spec, concatenate(parts))

    def write(self, folder: Path) -> None:
        """Write shards, then the manifest, into an empty or new folder.

        Raises:
            ConfigError: the folder holds other files, or cannot be written.
        """
        manifest = self.manifest.to_bytes()
        if folder.is_dir():
            sweep_temporary_files(folder)
            expected = {MANIFEST_FILE, *(shard.file for shard in self.manifest.shards)}
            others = sorted(path.name for path in folder.iterdir() if path.name not in expected)
            if others or ((folder / MANIFEST_FILE).exists() and (folder / MANIFEST_FILE).read_bytes() != manifest):
                raise ConfigError(
                    f"{folder} is not empty ({', '.join(others or [MANIFEST_FILE])}); choose a new folder"
                )
        for index, content in enumerate(self.shards):
            write_atomically(folder / shard_file(index), content)
        write_atomically(folder / MANIFEST_FILE, manifest)


def encode(
    labels: Labels, codec: Codec, *, num_views: int | None = None, recipe: dict[str, Any] | None = None
) -> EncodedLabels:
    """The first `num_views` labels (default: all) in `codec`.

    Raises:
        ConfigError: more views or classes than the labels hold, or fewer labels than images.
    """
    source = labels.spec
    count = source.num_views if num_views is None else num_views
    if not source.num_images <= count <= source.num_views:
        raise ConfigError(
            f"cannot keep {count} labels: the set has {source.num_views} and {source.num_images} images need one each"
        )
    if isinstance(codec, Dense) and labels.logits.ids.shape[1] != source.num_classes:
        kept = labels.logits.ids.shape[1]
        raise ConfigError(
            f"these labels keep {kept} of {source.num_classes} classes; codec dense cannot bring the rest back"
        )
    spec = replace(source, codec=codec, num_views=count, recipe=recipe)
    sizes, start, shards = spec.shard_sizes, 0, []
    for index, size in enumerate(sizes):
        shards.append(encode_shard(spec, index, labels.logits.take(slice(start, start + size))))
        start += size
    return EncodedLabels(spec, tuple(shards))


def fill_budget(labels: Labels, codec: Codec, budget: int, recipe: dict[str, Any] | None = None) -> EncodedLabels:
    """The most labels that fit `budget` bytes on disk, manifest included.

    Starts from the bytes per view of what was encoded last and corrects until the set fits and one label more would
    not.

    Raises:
        ConfigError: not even one label per image fits; the message says the smallest budget that works.
    """
    smallest, largest = labels.spec.num_images, labels.spec.num_views

    def sized(count: int) -> EncodedLabels:
        return encode(labels, codec, num_views=count, recipe=recipe)

    best = sized(smallest)
    if best.num_bytes > budget:
        raise ConfigError(
            f"budget {format_bytes(budget)} is smaller than one label per image ({smallest} labels in this codec); "
            f"the smallest that works is {best.num_bytes} bytes. Raise the budget, or lower k or bits"
        )
    fits, too_many = smallest, largest + 1
    per_view = codec.bytes_per_view(labels.spec.num_classes)
    for correction in count_from(1):
        if too_many - fits <= 1:
            break
        proposal = fits + int((budget - best.num_bytes) / per_view)
        # Sizes jump where a shard begins or a field needs one more bit; there slopes mislead, and halving ends it.
        if correction > _SLOPES_ALONE and correction % 3 == 0:
            proposal = (fits + too_many) // 2
        count = min(max(proposal, fits + 1), too_many - 1)
        candidate = sized(count)
        if candidate.num_bytes <= budget:
            per_view = max((candidate.num_bytes - best.num_bytes) / (count - fits), 1e-3)
            fits, best = count, candidate
        else:
            per_view = max((candidate.num_bytes - best.num_bytes) / (count - fits), 1e-3)
            too_many = count
    return best


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
