"""The places images come from: Parquet, Hugging Face data sets, image folders, the scikit-learn digits.

Parquet and folders may lie on a local path or on shared storage that a URI names.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lpqld.errors import ConfigError
from lpqld.images.class_names import default_names
from lpqld.images.folders import read_folder
from lpqld.images.hub import HUB_PREFIX, read_hub
from lpqld.images.parquet import count_parquet, parquet_files, read_parquet
from lpqld.images.records import Record, Source, in_order
from lpqld.storage import location

DIGITS_SPLITS = {"digits:train": (0.0, 0.6), "digits:val": (0.6, 0.8), "digits:test": (0.8, 1.0), "digits": (0.0, 1.0)}


def read_source(path: str, wanted: Sequence[str] | None = None) -> Source:
    """The encoded images at `path`; `wanted` helps to choose among several lists of class names.

    Raises:
        ConfigError: `path` does not name images.
        DataError: what it names cannot be read as labelled images.
    """
    if path in DIGITS_SPLITS:
        return _digits(*DIGITS_SPLITS[path])
    if path.startswith(HUB_PREFIX):
        return read_hub(path)
    place = location(path)
    files = parquet_files(place)
    if files:
        return read_parquet(files, wanted)
    if place.is_dir():
        return read_folder(place, wanted)
    raise ConfigError(
        f"no images at {path}: expected a Parquet file, a directory or glob of them, a data set that Hugging Face's"
        f" save_to_disk wrote, an image folder with one subfolder a class, {HUB_PREFIX}OWNER/NAME:SPLIT of the"
        f" Hugging Face Hub, or a built-in set ({', '.join(sorted(DIGITS_SPLITS))})"
    )


def count_source(path: str) -> tuple[int, int]:
    """Classes and images at `path`, without reading the images of Parquet files; errors as of `read_source`."""
    local = path in DIGITS_SPLITS or path.startswith(HUB_PREFIX)
    if files := [] if local else parquet_files(location(path)):
        return count_parquet(files)
    source = read_source(path)
    return len(source.class_names), len(source.records)


def _digits(start: float, end: float) -> Source:
    """The scikit-learn digits as grayscale PNG; a split takes its share of each class in an order fixed by hashes."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (a second that only these built-in sets should cost)

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    records, names = [], []
    for label in range(10):
        rows = [int(row) for row in np.flatnonzero(data.target == label)]
        rows.sort(key=lambda row: hashlib.sha256(f"lpqld digits {row}".encode()).digest())
        for row in sorted(rows[round(start * len(rows)) : round(end * len(rows))]):
            buffer = io.BytesIO()
            Image.fromarray(pixels[row]).save(buffer, format="PNG")
            records.append(Record(f"digits row {row}", label, buffer.getvalue()))
            names.append(f"{row:04d}")
    return in_order(default_names(10), records, names, "digits")
