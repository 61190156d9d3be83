"""Read and decode labelled images: what `ImageSet.open` does."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.images.class_names import few, positions
from lpqld.images.encoding import decode_all
from lpqld.images.memory import ImageMemory, choose_memory, free_host_bytes, mapped_array
from lpqld.images.sampling import sample_rows
from lpqld.images.sources import read_source
from lpqld.storage import RemotePath


class Skipped(NamedTuple):
    """An image that could not be read and was left out: where it stands, and why."""

    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: not a readable image: {self.reason}"


def read_images(
    path: str | os.PathLike[str] | RemotePath,
    size: int | None,
    class_names: Sequence[str] | None,
    eval_resize_ratio: float,
    skip_bad: bool,
    memory: ImageMemory | None,
    sample: tuple[int, int] | None,
) -> dict[str, Any]:
    """The attributes of an `ImageSet`; arguments and errors are those of `ImageSet.open`."""
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
    pixels, streamed = np.empty((0, 3, 1, 1), dtype=np.uint8), False
    rows: list[int] = []
    encoded_bytes, skipped = [], []
    originals: set[tuple[int, int]] = set()
    for row, decoded in enumerate(decode_all(records, size, eval_resize_ratio)):
        if decoded.pixels is None:
            problem = Skipped(records[row].origin, decoded.problem)
            if not skip_bad:
                raise DataError(f"{problem}. Repair or remove it, or pass `skip_bad` to leave it out")
            skipped.append(problem)
            continue
        if not rows:
            pixels, streamed = room_for((len(records), *decoded.pixels.shape), memory)
        pixels[len(rows)] = decoded.pixels
        rows.append(row)
        encoded_bytes.append(decoded.encoded_bytes)
        originals.add(decoded.original_size)
    if not rows:
        raise DataError(f"{path}: none of its {len(records)} images can be read; the first: {skipped[0]}")
    return {
        "pixels": torch.from_numpy(pixels[: len(rows)]),
        "labels": torch.from_numpy(labels[rows]),
        "class_names": names,
        "ids": ids[rows],
        "encoded_bytes": np.array(encoded_bytes, dtype=np.int64),
        "source": path,
        "resize": _describe_resize(originals, pixels.shape[-1], eval_resize_ratio),
        "skipped": tuple(skipped),
        "streamed": streamed,
    }


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
