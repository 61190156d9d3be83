"""Read and decode labelled images: what `ImageSet.open` does."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import ConfigError, DataError, few
from lpqld.images.class_names import positions
from lpqld.images.encoding import decode_all
from lpqld.images.memory import ImageMemory, choose_memory, free_host_bytes, mapped_array
from lpqld.images.records import Record
from lpqld.images.sampling import sample_rows
from lpqld.images.sources import read_source
from lpqld.storage import RemotePath


class Skipped(NamedTuple):
    """An image that could not be read and was left out: where it stands, and why."""

    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: not a readable image: {self.reason}"


@dataclass(frozen=True)
class ReadImages:
    """Images that were read and decoded; attributes are those of `ImageSet`."""

    pixels: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    ids: NDArray[np.int64]
    encoded_bytes: NDArray[np.int64]
    source: str
    resize: str | None
    skipped: tuple[Skipped, ...]
    streamed: bool


def read_images(
    path: str | os.PathLike[str] | RemotePath,
    size: int | None,
    class_names: Sequence[str] | None,
    eval_resize_ratio: float,
    skip_bad: bool,
    memory: ImageMemory | None,
    sample: tuple[int, int] | None,
) -> ReadImages:
    """Read and decode images; arguments and errors are those of `ImageSet.open`."""
    if size is not None and size < 1:
        raise ConfigError(f"`size` must be 1 pixel or more, found {size}")
    if not 1 <= eval_resize_ratio < 8:
        raise ConfigError(f"eval_resize_ratio must be in [1, 8), found {eval_resize_ratio}")
    path = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    source = read_source(path, class_names)
    records, ids, names = source.records, source.ids, source.class_names
    labels = np.array([record.label for record in records], dtype=np.int64)
    if class_names is not None:
        labels, names = _map_labels(labels, names, tuple(class_names), path), tuple(class_names)
    if sample is not None:
        chosen = sample_rows(labels, ids, names, *sample, path)
        records, ids, labels = tuple(records[row] for row in chosen), ids[chosen], labels[chosen]
    decoded = _decode(records, size, eval_resize_ratio, skip_bad, memory)
    if not decoded.rows:
        raise DataError(f"{path}: none of its {len(records)} images can be read; the first: {decoded.skipped[0]}")
    return ReadImages(
        pixels=torch.from_numpy(decoded.pixels[: len(decoded.rows)]),
        labels=torch.from_numpy(labels[decoded.rows]),
        class_names=names,
        ids=ids[decoded.rows],
        encoded_bytes=np.array(decoded.encoded_bytes, dtype=np.int64),
        source=path,
        resize=_describe_resize(decoded.original_sizes, decoded.pixels.shape[-1], eval_resize_ratio),
        skipped=tuple(decoded.skipped),
        streamed=decoded.streamed,
    )


@dataclass
class _Decoded:
    """What decoding has found so far.

    Attributes:
        pixels: room for those of all records, of which the first `len(rows)` are filled.
        streamed: the room is in a mapped file.
        rows: the records that could be read.
        encoded_bytes: of each of them.
        original_sizes: their widths and heights before they were brought to size.
        skipped: the others.
    """

    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 3, 1, 1), dtype=np.uint8))
    streamed: bool = False
    rows: list[int] = field(default_factory=list)
    encoded_bytes: list[int] = field(default_factory=list)
    original_sizes: set[tuple[int, int]] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)


def _decode(
    records: Sequence[Record], size: int | None, eval_resize_ratio: float, skip_bad: bool, memory: ImageMemory | None
) -> _Decoded:
    """Decode every record; one that cannot be read is an error, or with `skip_bad` left out."""
    found = _Decoded()
    for row, image in enumerate(decode_all(records, size, eval_resize_ratio)):
        if image.pixels is None:
            problem = Skipped(records[row].origin, image.problem)
            if not skip_bad:
                raise DataError(f"{problem}. Repair or remove it, or pass `skip_bad` to leave it out")
            found.skipped.append(problem)
            continue
        if not found.rows:
            found.pixels, found.streamed = room_for((len(records), *image.pixels.shape), memory)
        found.pixels[len(found.rows)] = image.pixels
        found.rows.append(row)
        found.encoded_bytes.append(image.encoded_bytes)
        found.original_sizes.add(image.original_size)
    return found


def room_for(shape: tuple[int, ...], memory: ImageMemory | None) -> tuple[np.ndarray, bool]:
    """Room for pixels, and whether it is in a mapped file."""
    memory = memory or choose_memory(math.prod(shape), device_bytes=None, host_bytes=free_host_bytes())
    return (mapped_array(shape), True) if memory == "streamed" else (np.empty(shape, dtype=np.uint8), False)


def _map_labels(labels: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...], path: str) -> np.ndarray:
    """Labels as positions in `wanted`, matched by name."""
    hint = "Class names come from the Parquet schema, a classes.json beside the file, or the subfolders"
    absent = [name for name, place in zip(wanted, positions(wanted, names), strict=True) if place is None]
    if absent:
        raise DataError(
            f"{path}: no class in the evaluation set for {len(absent)} of the {len(wanted)} classes of the images:"
            f" {few(absent)} (it has {len(names)}: {few(names)}). {hint}"
        )
    places = positions(names, wanted)
    extra = [names[label] for label in np.unique(labels) if places[label] is None]
    if extra:
        raise DataError(
            f"{path}: {len(extra)} classes of the evaluation set are not among the {len(wanted)} of the images:"
            f" {few(extra)}. Leave their images out. {hint}"
        )
    return np.array([-1 if place is None else place for place in places], dtype=np.int64)[labels]


def _describe_resize(originals: set[tuple[int, int]], size: int, eval_resize_ratio: float) -> str | None:
    changed = originals - {(size, size)}
    if not changed:
        return None
    width, height = min(changed)
    one = len(originals) == 1
    before = (f"{width}" if width == height else f"{width}x{height}") if one else "mixed"
    side = round(size * eval_resize_ratio)
    crop = f", centre crop {size}" if side != size or (one and width != height) or not one else ""
    return f"bicubic {before}->{side}{crop}"
