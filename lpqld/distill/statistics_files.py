"""Class-wise batch-norm statistics as safetensors files, one a chunk of classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lpqld.distill.class_statistics import ClassStatistics
from lpqld.errors import DataError
from lpqld.storage import Location

FORMAT_VERSION = 1
_ENTRY = "lpqld statistics"  # of the metadata
_MOST_CLASSES, _CHUNKS = 64, 64  # of a chunk; chunks where there are as many classes


def chunk_size(num_classes: int) -> int:
    """Classes in a chunk: it depends on the job alone, so that any workers make the same files."""
    return max(1, min(_MOST_CLASSES, num_classes // _CHUNKS))


def chunk_classes(num_classes: int, index: int) -> NDArray[np.int64]:
    """The classes of chunk `index`."""
    size = chunk_size(num_classes)
    return np.arange(index * size, min((index + 1) * size, num_classes))


def num_chunks(num_classes: int) -> int:
    """How many chunks there are."""
    return -(-num_classes // chunk_size(num_classes))


def statistics_file(index: int) -> str:
    """The name of a chunk's file."""
    return f"statistics-{index:05d}.safetensors"


@dataclass(frozen=True)
class StatisticsFolder:
    """Statistics of all classes, in the files of one folder.

    Attributes:
        folder: where they lie.
        num_classes: of the images.
        fingerprint: of teacher and images, which every file has.
    """

    folder: Location
    num_classes: int
    fingerprint: str

    def path(self, index: int) -> Location:
        """Of a chunk's file."""
        return self.folder / statistics_file(index)

    def read_chunk(self, index: int) -> ClassStatistics:
        """The statistics of a chunk of classes.

        Raises:
            DataError: its file is missing or damaged, or of another teacher or other images.
        """
        path = self.path(index)
        if not path.is_file():
            raise DataError(f"{path} is missing; run the same command again")
        try:
            return statistics_from_bytes(path.read_bytes(), self.fingerprint)
        except DataError as error:
            raise DataError(f"{path}: {error}; delete it and run the same command again") from error

    def read(self, class_ids: Sequence[int] | NDArray[np.int64]) -> ClassStatistics:
        """The statistics of some classes, from the chunks that hold them; errors as of `read_chunk`."""
        chunks = np.unique(np.asarray(class_ids) // chunk_size(self.num_classes))
        parts = [self.read_chunk(int(index)) for index in chunks]
        joined = ClassStatistics(
            np.concatenate([part.class_ids for part in parts]),
            np.concatenate([part.counts for part in parts]),
            {name: np.concatenate([part.means[name] for part in parts]) for name in parts[0].means},
            {name: np.concatenate([part.variances[name] for part in parts]) for name in parts[0].variances},
        )
        return joined.take(class_ids)


def statistics_to_bytes(statistics: ClassStatistics, fingerprint: str) -> bytes:
    """A chunk's file.

    Args:
        fingerprint: of teacher and images.
    """
    tensors: dict[str, NDArray[np.generic]] = {"class_ids": statistics.class_ids, "counts": statistics.counts}
    for index, name in enumerate(statistics.means):  # the order of layers is in their numbers
        tensors[f"mean.{index:04d}.{name}"] = statistics.means[name]
        tensors[f"variance.{index:04d}.{name}"] = statistics.variances[name]
    # One entry: of several, safetensors writes any first, and the bytes would differ from run to run.
    return bytes(save(tensors, {_ENTRY: f"{FORMAT_VERSION} {fingerprint}"}))


def statistics_from_bytes(content: bytes, fingerprint: str) -> ClassStatistics:
    """The statistics in a chunk's file.

    Raises:
        DataError: it is none, or of another fingerprint.
    """
    try:
        tensors = load(content)
        found = str(_metadata(content).get(_ENTRY))
        means, variances = (
            {name.split(".", 2)[2]: values for name, values in sorted(tensors.items()) if name.startswith(kind)}
            for kind in ("mean.", "variance.")
        )
        statistics = ClassStatistics(tensors["class_ids"], tensors["counts"], means, variances)
    except (SafetensorError, KeyError, IndexError, ValueError) as error:
        raise DataError(f"this is no file of class statistics ({error})") from error
    if found != f"{FORMAT_VERSION} {fingerprint}":
        raise DataError(
            f"these class statistics are of another teacher or other images: expected version and fingerprint "
            f"{FORMAT_VERSION} {fingerprint}, found {found}"
        )
    return statistics


def _metadata(content: bytes) -> dict[str, str]:
    """Of a safetensors file, which has the length of its header first."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata
