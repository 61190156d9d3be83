"""Encoded training images by class, decoded a batch at a time: more of them than any memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.counter_random import Stream, random_words
from lpqld.errors import DataError, few
from lpqld.images.encoding import decode_all
from lpqld.images.records import Record
from lpqld.images.sources import read_source
from lpqld.storage import canonical_json, fingerprint


@dataclass(frozen=True)
class TrainingImages:
    """Images of C classes, encoded.

    Attributes:
        records: in canonical order, class after class.
        class_names: C different names.
        size: side in pixels that they are brought to.
        exact: whether an image of another size is refused.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    size: int
    exact: bool = False

    @classmethod
    def open(cls, path: str, *, size: int | None) -> TrainingImages:
        """The images at `path`, see `ImageSet.open`; none is decoded yet, but the first where `size` is None.

        Raises:
            ConfigError: no such path.
            DataError: an unreadable table or image, or a class without images.
        """
        source = read_source(path)
        records = tuple(sorted(source.records, key=lambda record: record.label))
        exact = size is None
        if size is None:
            size = decoded(records[:1], None).shape[-1]
        images = cls(records, source.class_names, size, exact)
        empty = np.flatnonzero(images.counts == 0)
        if len(empty):
            names = [images.class_names[row] for row in empty]
            raise DataError(f"{path} has no images of {len(empty)} classes ({few(names)})")
        return images

    def of_classes(self, class_ids: Sequence[int] | NDArray[np.int64]) -> TrainingImages:
        """The same without the records of other classes; with none, what a job has to know."""
        rows = np.flatnonzero(np.isin(self.labels, class_ids))
        return replace(self, records=tuple(self.records[row] for row in rows))

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
        """SHA-256 (hex) over class names, size, and each image's class and bytes; of a file, its name and size.

        A file that is replaced by another of the same size is not noticed: a million files are not read for that.
        """
        entries = [
            [record.label, *(record.key or [fingerprint(record.content or b"")])]  # type: ignore[arg-type]
            for record in self.records
        ]
        return fingerprint(canonical_json([list(self.class_names), self.size]), canonical_json(entries))

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that encoded images take, where they are not files."""
        return sum(len(record.content) for record in self.records if isinstance(record.content, bytes))

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
        """All images: uint8 [B, 3, S, S] and their classes [B].

        Raises:
            DataError: an image that cannot be read.
        """
        for start in range(0, len(self.records), batch_size):
            some = slice(start, start + batch_size)
            yield torch.from_numpy(decoded(self.records[some], self.size, self.exact)), self.labels[some]

    def sample(self, classes: NDArray[np.int64], numbers: NDArray[np.int64], seed: int) -> torch.Tensor:
        """Image `numbers` of each class permuted by `seed`, uint8 [B, 3, S, S]; over again where it has fewer."""
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        chosen = []
        for label, number in zip(classes, numbers, strict=True):
            ranks = np.arange(starts[label + 1] - starts[label])
            words = random_words(seed, Stream.TRAINING_IMAGE_SAMPLE, ranks, np.full_like(ranks, label), 0)[0]
            rank = np.argsort(words, kind="stable")[number % len(ranks)]
            chosen.append(self.records[starts[label] + rank])
        return torch.from_numpy(decoded(chosen, self.size, self.exact))


def decoded(records: Sequence[Record], size: int | None, exact: bool = False) -> NDArray[np.uint8]:
    """Pixels of images, uint8 [B, 3, S, S].

    Raises:
        DataError: one cannot be read, or, if `exact`, has another size.
    """
    pixels = []
    for record, image in zip(records, decode_all(records, size, 1.0), strict=True):
        if image.pixels is None:
            raise DataError(f"{record.origin}: {image.problem}. Repair or remove it")
        if exact and image.original_size != (size, size):
            width, height = image.original_size
            raise DataError(
                f"{record.origin} is {width} x {height} pixels and the first image {size} x {size}: images must be "
                "squares of one size; pass `size` to bring them all to one"
            )
        pixels.append(image.pixels)
    return np.stack(pixels)
