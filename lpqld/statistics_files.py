"""Class-wise batch-norm statistics as safetensors files, one a chunk of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lpqld.errors import DataError
from lpqld.location import Location
from lpqld.squeeze import ClassStatistics

FORMAT_VERSION = 1
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
    return bytes(save(tensors, {"lpqld statistics": f"{FORMAT_VERSION} {fingerprint}"}))


def statistics_from_bytes(content: bytes) -> ClassStatistics:
    """The statistics in a chunk's file.

    Raises:
        DataError: it is none.
    """
    try:
        tensors = load(content)
        means, variances = (
            {name.split(".", 2)[2]: values for name, values in sorted(tensors.items()) if name.startswith(kind)}
            for kind in ("mean.", "variance.")
        )
        return ClassStatistics(tensors["class_ids"], tensors["counts"], means, variances)
    except (SafetensorError, KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"this is no file of class statistics ({error}); delete it and run the same command again"
        ) from error


def read_chunk(path: Location) -> ClassStatistics:
    """The statistics in a chunk's file.

    Raises:
        DataError: it is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; run the same command again")
    try:
        return statistics_from_bytes(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_statistics(
    folder: Location, num_classes: int, class_ids: Sequence[int] | NDArray[np.int64]
) -> ClassStatistics:
    """The statistics of some classes, from the chunks that hold them.

    Raises:
        DataError: a chunk is missing or damaged.
    """
    chunks = np.unique(np.asarray(class_ids) // chunk_size(num_classes))
    parts = [read_chunk(folder / statistics_file(int(index))) for index in chunks]
    joined = ClassStatistics(
        np.concatenate([part.class_ids for part in parts]),
        np.concatenate([part.counts for part in parts]),
        {name: np.concatenate([part.means[name] for part in parts]) for name in parts[0].means},
        {name: np.concatenate([part.variances[name] for part in parts]) for name in parts[0].variances},
    )
    return joined.take(class_ids)
