"""Label sets: decoded in memory (`Labels`), or a folder of shards with a manifest (`LabelSet`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lpqld.codec import Logits
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.manifest import MANIFEST_FILE, Manifest
from lpqld.shards import SHARD_SUFFIX, read_shard, shard_file
from lpqld.spec import LabelSpec
from lpqld.store import TEMPORARY_SUFFIX


@dataclass(frozen=True)
class Labels:
    """The decoded labels of `spec.num_views` views, in the order of `views.Views`."""

    spec: LabelSpec
    logits: Logits

    def images_of(self, images: ImageSet) -> ImageSet:
        """The images that these labels were made for, in their order, out of `images`.

        Raises:
            DataError: they are not there; the message holds both fingerprints.
        """
        return select_images(self.spec, images)


@dataclass(frozen=True)
class LabelSet:
    """A finished label set on disk. Reading verifies what it reads."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> LabelSet:
        """Open the label set in `folder`.

        Raises:
            ConfigError: there is no such folder.
            DataError: it holds no finished label set, or a damaged manifest.
        """
        path = Path(folder)
        if not path.is_dir():
            raise ConfigError(f"label set {path}: no such folder; `lpqld relabel` and `lpqld export` make label sets")
        return cls(path, Manifest.read(path))

    @property
    def spec(self) -> LabelSpec:
        """What the manifest says."""
        return self.manifest.spec

    def shards(self) -> Iterator[Logits]:
        """The labels, one shard in memory at a time."""
        for index, shard in enumerate(self.manifest.shards):
            yield read_shard(self.folder, self.spec, index, shard)

    @cached_property
    def labels(self) -> Labels:
        """All labels, decoded and verified."""
        return Labels(self.spec, Logits.concatenate(list(self.shards())))

    @property
    def files(self) -> list[str]:
        """The names of its files, the manifest last."""
        return [*map(shard_file, range(self.spec.num_shards)), MANIFEST_FILE]

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes on disk: all files of the folder, the shards, the manifest."""
        files = {path: path.stat().st_size for path in self.folder.rglob("*") if path.is_file()}
        return {
            "total": sum(files.values()),
            "payload": sum(shard.num_bytes for shard in self.manifest.shards),
            "manifest": files[self.folder / MANIFEST_FILE],
        }

    def images_of(self, images: ImageSet) -> ImageSet:
        """The images that these labels were made for, in their order, out of `images`; see `Labels.images_of`."""
        return select_images(self.spec, images)

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


def select_images(spec: LabelSpec, images: ImageSet) -> ImageSet:
    """The images that labels of `spec` were made for, out of `images`."""
    if images.num_classes != spec.num_classes:
        raise DataError(
            f"{images.source}: {images.num_classes} classes, the labels were made for {spec.num_classes}; "
            f"fingerprints {images.fingerprint} and {spec.images.fingerprint}. Pass the images of the labels"
        )
    return images.select(spec.image_ids, spec.images.fingerprint)
