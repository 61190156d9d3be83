"""Encoded training images by class, decoded a batch at a time: more of them than any memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.classes import few, positions
from lpqld.draws import random_words
from lpqld.errors import DataError
from lpqld.image_codec import decode_all
from lpqld.image_sources import Record, read_source
from lpqld.store import canonical_json, fingerprint

_SAMPLE_STREAM = 10


@dataclass(frozen=True)
class TrainingImages:
    """Images of C classes, encoded.

    Attributes:
        records: in canonical order, class after class.
        class_names: C different names.
        size: side in pixels that they are brought to.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    size: int

    @classmethod
    def open(cls, path: str, *, size: int | None, class_names: Sequence[str] | None = None) -> TrainingImages:
        """The images at `path`, see `ImageSet.open`; none is decoded yet, but the first where `size` is None.

        Args:
            class_names: classes, by name, in another order, or some of them.

        Raises:
            ConfigError: no such path, or images of several sizes.
            DataError: an unreadable table or image, or a class is not there.
        """
        source = read_source(path, class_names)
        records, names = source.records, source.class_names
        if class_names is not None and tuple(class_names) != names:
            found = positions(class_names, names)
            missing = [name for name, position in zip(class_names, found, strict=True) if position is None]
            if missing:
                raise DataError(f"{path} has no class {few(missing)} of the {len(class_names)} that are wanted")
            new = {old: position for position, old in enumerate(found)}
            kept = [record for record in records if record.label in new]
            records = tuple(Record(record.origin, new[record.label], record.content) for record in kept)
            names = tuple(class_names)
        records = tuple(sorted(records, key=lambda record: record.label))
        if size is None:
            size = decoded(records[:1], None).shape[-1]
        images = cls(records, names, size)
        empty = np.flatnonzero(images.counts == 0)
        if len(empty):
            raise DataError(f"{path} has no images of {len(empty)} classes ({few([names[row] for row in empty])})")
        return images

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of each record, ascending."""
        return np.array([record.label for record in self.records], dtype=np.int64)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Images of each class [C]."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over class names, size, and each image's class and bytes, or its name where it is a file."""
        names = [
            [record.label, fingerprint(record.content) if isinstance(record.content, bytes) else record.origin]
            for record in self.records
        ]
        return fingerprint(canonical_json([list(self.class_names), self.size]), canonical_json(names))

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that encoded images take, where they are not files."""
        return sum(len(record.content) for record in self.records if isinstance(record.content, bytes))

    def batches(
        self, class_ids: Sequence[int] | NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
        """All images of some classes: uint8 [B, 3, S, S] and their classes [B].

        Raises:
            DataError: an image that cannot be read.
        """
        rows = np.flatnonzero(np.isin(self.labels, class_ids))
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            yield torch.from_numpy(decoded([self.records[row] for row in some], self.size)), self.labels[some]

    def sample(self, classes: NDArray[np.int64], numbers: NDArray[np.int64], seed: int) -> torch.Tensor:
        """Image `numbers` of each class permuted by `seed`, uint8 [B, 3, S, S]; over again where it has fewer."""
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        chosen = []
        for label, number in zip(classes, numbers, strict=True):
            rows = np.arange(starts[label], starts[label + 1])
            order = np.argsort(random_words(seed, _SAMPLE_STREAM, rows, np.zeros_like(rows), 0)[0], kind="stable")
            chosen.append(self.records[rows[order[number % len(rows)]]])
        return torch.from_numpy(decoded(chosen, self.size))


def decoded(records: Sequence[Record], size: int | None) -> NDArray[np.uint8]:
    """Pixels of images, uint8 [B, 3, S, S].

    Raises:
        DataError: one cannot be read.
    """
    pixels = []
    for record, image in zip(records, decode_all(records, size, 1.0), strict=True):
        if image.pixels is None:
            raise DataError(f"{record.origin}: {image.problem}. Repair or remove it")
        pixels.append(image.pixels)
    return np.stack(pixels)
