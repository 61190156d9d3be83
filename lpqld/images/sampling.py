"""So many of every class: which rows they are, given the labels and ids of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import Stream, random_words
from lpqld.errors import ConfigError, DataError, few


def ranks_in_class(labels: np.ndarray) -> np.ndarray:
    """int64 [N]: position of each of `labels` [N] among those that are equal to it, from 0."""
    order = np.argsort(labels, kind="stable")
    by_class = labels[order]
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(by_class, by_class)
    return ranks


def words_of(seed: int, stream: int, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A random word of each image [N]: the same in every subset."""
    words: NDArray[np.uint64] = random_words(seed % 2**64, stream, ids, np.zeros_like(ids), block=0)[0]
    return words


def sample_rows(
    labels: NDArray[np.int64], ids: NDArray[np.int64], class_names: Sequence[str], n: int, seed: int, where: str
) -> NDArray[np.int64]:
    """The first `n` rows of a permutation of each class by (seed, id), class after class.

    Raises:
        ConfigError: `n` is below 1.
        DataError: a class has fewer than `n` images; `where` is named.
    """
    order = np.argsort(words_of(seed, Stream.CLASS_SAMPLE, ids), kind="stable")
    return first_rows(labels, order, class_names, n, where)


def first_rows(
    labels: NDArray[np.int64], order: NDArray[np.int64], class_names: Sequence[str], n: int, where: str
) -> NDArray[np.int64]:
    """The first `n` rows of every class in an `order` of all rows, class after class; errors as of `sample_rows`."""
    if n < 1:
        raise ConfigError(f"images per class (`n`) must be 1 or more, found {n}")
    counts = np.bincount(labels, minlength=len(class_names))
    short = [f"{class_names[label]} has {counts[label]}" for label in np.flatnonzero(counts < n).tolist()]
    if short:
        raise DataError(f"{where}: {n} images per class (`n`) are asked for, but class {few(short)}")
    by_class = order[np.argsort(labels[order], kind="stable")]
    return by_class[ranks_in_class(labels[by_class]) < n]
