"""Encoded images of one place, before any is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lpqld.errors import DataError
from lpqld.storage import Location

SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test"}


@dataclass(frozen=True)
class Record:
    """One encoded image.

    Attributes:
        origin: where it stands, for messages.
        label: its class.
        content: its bytes, or the file that has them.
        key: of a file, its name in the source and its size: what tells it from another without reading it.
    """

    origin: str
    label: int
    content: bytes | Location | None
    key: tuple[str, int] | None = None


@dataclass(frozen=True)
class Source:
    """Every image of one place in canonical order (class, file name, row), or in its own order where it has ids."""

    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    ids: np.ndarray


def in_order(class_names: tuple[str, ...], records: list[Record], file_names: list[str], where: str) -> Source:
    """A source of these records by class, then file name, then row.

    Raises:
        DataError: there are none.
    """
    if not records:
        raise DataError(f"{where}: expected images, found none")
    order = sorted(range(len(records)), key=lambda row: (records[row].label, file_names[row], row))
    return Source(class_names, tuple(records[row] for row in order), np.arange(len(records), dtype=np.int64))
