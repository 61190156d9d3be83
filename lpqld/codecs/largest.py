"""Which classes a label keeps: the k largest logits, equal ones going to the lower id."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled
from lpqld.codecs.label_block import check_finite
from lpqld.codecs.logits import DenseOrSparse, Logits
from lpqld.errors import ConfigError


class LargestLogits(NamedTuple):
    """The k largest logits of N views: `ids` ascending [N, k], their `values` [N, k], each argmax's place [N]."""

    ids: NDArray[np.int32]
    values: NDArray[np.floating[Any]]
    argmax: NDArray[np.int64]


def largest_logits(logits: DenseOrSparse, k: int, first: int = 0) -> LargestLogits:
    """The k largest of each view; `first` is the first one's number, for messages.

    Of equal largest values the first one is the argmax: sparse labels put the teacher's there.

    Raises:
        ConfigError: k is more than the classes there are.
        DataError: a logit is NaN or infinite.
    """
    values = logits.values if isinstance(logits, Logits) else logits
    if k > values.shape[1]:
        raise ConfigError(f"k={k} exceeds the {values.shape[1]} classes of these labels; choose a smaller k")
    check_finite(values, first)
    argmax = values.argmax(axis=1)
    if not isinstance(logits, Logits):
        columns = largest(values, k)
        place = (columns == argmax[:, None]).argmax(axis=1)
        return LargestLogits(columns, np.take_along_axis(values, columns, axis=1), place)
    by_id = np.argsort(logits.ids, axis=1)
    all_ids = np.take_along_axis(logits.ids, by_id, axis=1)
    values = np.take_along_axis(values, by_id, axis=1)
    argmax = (by_id == argmax[:, None]).argmax(axis=1)
    surely_kept = values.copy()
    np.put_along_axis(surely_kept, argmax[:, None], np.inf, axis=1)
    columns = largest(surely_kept, k)
    ids = np.take_along_axis(all_ids, columns, axis=1).astype(np.int32)
    return LargestLogits(ids, np.take_along_axis(values, columns, axis=1), (columns == argmax[:, None]).argmax(axis=1))


def largest(values: NDArray[np.floating[Any]], k: int) -> NDArray[np.int32]:
    """Columns of the k largest of each row, ascending [N, k]; equal values: the lower column."""
    num_rows, num_columns = values.shape
    if k == num_columns:
        return np.tile(np.arange(num_columns, dtype=np.int32), (num_rows, 1))
    # numpy partitions float16 and odd strides slowly.
    values = np.ascontiguousarray(values, dtype=np.result_type(values.dtype, np.float32))
    columns = np.empty((num_rows, k), dtype=np.int32)
    group = num_columns // (2 * k)
    if group < 2:
        _collect(values, _kth_largest(values, k), columns)
        return columns
    # Twice faster than one partition of whole rows: k group maxima are at least `floor`, so the k largest are too.
    whole = 2 * k * group
    maxima = values[:, :whole].reshape(num_rows, group, 2 * k).max(axis=1)
    floor = _kth_largest(np.concatenate([maxima, values[:, whole:]], axis=1), k)
    candidates = np.full((num_rows, int(_count(values, floor).max(initial=k))), -np.inf, dtype=values.dtype)
    places = np.zeros(candidates.shape, dtype=np.int32)
    _gather(values, floor, candidates, places)
    _collect(candidates, _kth_largest(candidates, k), columns)
    return np.take_along_axis(places, columns, axis=1)


def _kth_largest(values: NDArray[np.floating[Any]], k: int) -> NDArray[np.floating[Any]]:
    return np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k]


@compiled
def _count(values, floor):
    """How many values of each row are at least its floor."""
    counts = np.zeros(len(values), dtype=np.int64)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            counts[row] += values[row, column] >= floor[row]
    return counts


@compiled
def _gather(values, floor, candidates, places):
    """Those values, and their columns, in order."""
    for row in range(len(values)):
        filled = 0
        for column in range(values.shape[1]):
            if values[row, column] >= floor[row]:
                candidates[row, filled] = values[row, column]
                places[row, filled] = column
                filled += 1


@compiled
def _collect(values, thresholds, columns):
    """Columns above each row's threshold, and as many of those equal to it as there is room for."""
    num_rows, num_columns = values.shape
    k = columns.shape[1]
    for row in range(num_rows):
        threshold, above = thresholds[row], 0
        for column in range(num_columns):
            above += values[row, column] > threshold
        equal, filled = k - above, 0
        for column in range(num_columns):
            value = values[row, column]
            if value > threshold or (value == threshold and equal > 0):
                if value == threshold:
                    equal -= 1
                columns[row, filled] = column
                filled += 1
