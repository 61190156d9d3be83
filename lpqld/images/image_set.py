"""ImageSet: ordered images with stable ids, class names and a fingerprint.

An image's id is its row in the canonical order of its source (class order, then file name, then row). Subsets keep
ids, so that a view drawn from (seed, image id, view number) is the same in every subset.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lpqld.counter_random import Stream
from lpqld.errors import ConfigError, DataError
from lpqld.images.memory import ImageMemory
from lpqld.images.reading import Skipped, read_images, room_for
from lpqld.images.sampling import first_rows, ranks_in_class, sample_rows, words_of
from lpqld.images.writing import write_parquet
from lpqld.storage import RemotePath, canonical_json, fingerprint


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N square images of one size, in a fixed order.

    Attributes:
        pixels: uint8 [N, 3, S, S], RGB.
        labels: int64 [N], each in [0, C).
        class_names: C different names; a label is a position among them.
        ids: int64 [N], each different and 0 or more: the image's row in the canonical order of its source.
        encoded_bytes: int64 [N], bytes of each encoded image in its source.
        source: where the images were read.
        resize: how they were brought to size, such as "bicubic 64->32"; None when untouched.
        skipped: the unreadable images that were left out (only on request).
        streamed: the pixels lie in a mapped file, since memory has no room for them.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    ids: np.ndarray
    encoded_bytes: np.ndarray
    source: str
    resize: str | None = None
    skipped: tuple[Skipped, ...] = ()
    streamed: bool = False

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if self.pixels.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise ValueError(f"pixels must be uint8 [N, 3, S, S], found {self.pixels.dtype} {list(shape)}")
        if not len(self.labels) == len(self.ids) == len(self.encoded_bytes) == shape[0]:
            raise ValueError(f"labels, ids and encoded_bytes must have {shape[0]} elements, one an image")
        if self.labels.dtype != torch.int64 or self.ids.dtype != np.int64 or self.encoded_bytes.dtype != np.int64:
            raise ValueError("labels, ids and encoded_bytes must be int64")

    def __getstate__(self) -> dict[str, Any]:
        # As numpy arrays, which leave a pickle as buffers: processes of a node then read one copy. Tensors are copied.
        return {**self.__dict__, "pixels": self.pixels.numpy(), "labels": self.labels.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")  # nor does anyone write to an image set
            tensors = {name: torch.from_numpy(state[name]) for name in ("pixels", "labels")}
        self.__dict__.update(state, **tensors)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the pixels take, where they are not streamed."""
        return 0 if self.streamed else self.pixels.numel()

    @property
    def num_classes(self) -> int:
        """C, counting classes without images."""
        return len(self.class_names)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.pixels.shape[-1])

    @property
    def image_bytes(self) -> int:
        """Bytes of all encoded images together."""
        return int(self.encoded_bytes.sum())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over decoded pixels, labels, class names in order, and shape."""
        names, shape = canonical_json(list(self.class_names)), canonical_json(list(self.pixels.shape))
        return fingerprint(
            self.pixels.contiguous().numpy().data, self.labels.numpy().astype("<i8").tobytes(), names, shape
        )

    @cached_property
    def ranks(self) -> np.ndarray:
        """int64 [N]: position of each image among those of its class, in the order of this set, from 0."""
        return ranks_in_class(self.labels.numpy())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | RemotePath,
        *,
        size: int | None = None,
        class_names: Sequence[str] | None = None,
        eval_resize_ratio: float = 1.0,
        skip_bad: bool = False,
        memory: ImageMemory | None = None,
        sample: tuple[int, int] | None = None,
    ) -> ImageSet:
        """Read and decode every image at `path`, or a sample of every class.

        Args:
            path: a Parquet file, a directory or glob of them, an image folder, or a built-in set (`digits:train`);
                a path or a URI such as `s3://bucket/images`.
            size: side S in pixels; None for the size that all images have. An image that is not S x S gets its
                shorter side resized to round(S * eval_resize_ratio) and its S x S centre cropped.
            class_names: labels are mapped, by name, to positions in this list, which becomes the set's.
            eval_resize_ratio: 1 or more; 256 / 224 is ImageNet's habit.
            skip_bad: leave unreadable images out and list them in `skipped`, instead of refusing the set.
            memory: "streamed" decodes into a mapped file; None does so where the pixels would fill memory.
            sample: (n, seed), for `sample_per_class(n, seed)` of the set without decoding the rest of it.

        Raises:
            ConfigError: no such path, no common size, no room, or an argument out of range.
            DataError: an unreadable image, table or label, or classes that do not match `class_names`.
        """
        early = None if skip_bad else sample  # which images can be read is known only once all are decoded
        images = cls(**vars(read_images(path, size, class_names, eval_resize_ratio, skip_bad, memory, early)))
        return images if sample is None or sample is early else images.sample_per_class(*sample)

    def take(self, rows: Sequence[int] | np.ndarray) -> ImageSet:
        """The images at `rows` of this set, in that order, with their ids."""
        index = np.ascontiguousarray(rows, dtype=np.int64)
        pixels, streamed = room_for((len(index), *self.pixels.shape[1:]), None if self.streamed else "shared")
        torch.index_select(self.pixels, 0, torch.from_numpy(index), out=torch.from_numpy(pixels))
        return replace(
            self,
            pixels=torch.from_numpy(pixels),
            labels=self.labels[torch.from_numpy(index)],
            ids=self.ids[index],
            encoded_bytes=self.encoded_bytes[index],
            streamed=streamed,
        )

    def first_per_class(self, n: int) -> ImageSet:
        """The first `n` images of every class in the order of this set, class after class.

        Raises:
            ConfigError: `n` is below 1.
            DataError: a class has fewer than `n` images.
        """
        order = np.arange(self.num_images)
        return self.take(first_rows(self.labels.numpy(), order, self.class_names, n, self.source))

    def sample_per_class(self, n: int, seed: int) -> ImageSet:
        """The first `n` images of a permutation of each class by (seed, id), in its order, class after class.

        Samples are nested: `sample_per_class(20, s).first_per_class(10)` is `sample_per_class(10, s)`.

        Raises:
            ConfigError: `n` is below 1.
            DataError: a class has fewer than `n` images.
        """
        return self.take(sample_rows(self.labels.numpy(), self.ids, self.class_names, n, seed, self.source))

    def split(self, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
        """Two stratified parts by (seed, id), `fraction` of every class (within one image) and the rest.

        Raises:
            ConfigError: `fraction` is not in (0, 1).
            DataError: one part would be empty.
        """
        if not 0 < fraction < 1:
            raise ConfigError(f"the fraction of a split must be between 0 and 1, found {fraction}")
        order, starts = self._by_class
        words = words_of(seed, Stream.SPLIT, self.ids)
        ends = np.floor(starts * fraction + 0.5).astype(np.int64)  # rounding the running total keeps the whole exact
        first = np.zeros(self.num_images, dtype=bool)
        for label in range(self.num_classes):
            rows = order[starts[label] : starts[label + 1]]
            shuffled = rows[np.argsort(words[rows], kind="stable")]
            first[shuffled[: ends[label + 1] - ends[label]]] = True
        if first.all() or not first.any():
            raise DataError(f"{self.source}: {self.num_images} images are too few to split in two")
        return self.take(np.flatnonzero(first)), self.take(np.flatnonzero(~first))

    def select(self, ids: np.ndarray, fingerprint: str) -> ImageSet:
        """The images that labels were made for, from their ids and fingerprint.

        They are the rows with these ids, or else this whole set where its fingerprint is the one asked for: it then
        takes over the ids, since those say which views were drawn.

        Raises:
            DataError: neither has that fingerprint.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if np.array_equal(ids, self.ids) and self.fingerprint == fingerprint:
            return self
        rows = {int(number): row for row, number in enumerate(self.ids)}
        found = self.fingerprint
        if all(int(number) in rows for number in ids):
            chosen = self.take([rows[int(number)] for number in ids])
            if chosen.fingerprint == fingerprint:
                return chosen
            found = chosen.fingerprint
        if len(ids) == self.num_images and self.fingerprint == fingerprint:
            return replace(self, ids=ids)
        raise DataError(
            f"{self.source}: the labels were made for other images: expected {len(ids)} images with fingerprint"
            f" {fingerprint}, found {found} ({self.num_images} images of {self.size} pixels, {self.num_classes}"
            " classes). Pass the images, size and class order that were relabelled"
        )

    def write(self, folder: str | os.PathLike[str] | RemotePath) -> None:
        """Write the images to `folder`, a path or a URI, as lossless PNG in Parquet shards.

        `open` and Hugging Face `datasets` read them.

        Raises:
            ConfigError: `folder` holds other Parquet files or cannot be written.
        """
        write_parquet(folder, self.pixels.numpy(), self.labels.numpy(), self.ids, self.class_names)

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows ordered by class, int64 [N], and where each class starts among them, int64 [C + 1]."""
        labels = self.labels.numpy()
        starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=self.num_classes))])
        return np.argsort(labels, kind="stable"), starts
