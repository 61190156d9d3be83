"""Labels as whole numbers and back: the largest logits, rounded to steps (or to fp16's own), in order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.absent import Absent, absent_levels, absent_logits, absent_numbers, unit_of
from lpqld.codecs.entropy.adaptive_bits import LARGEST_NUMBER
from lpqld.codecs.label_block import LabelBlock, as_half
from lpqld.codecs.largest import largest_logits
from lpqld.codecs.logits import Logits
from lpqld.errors import DataError

_CHUNK_VALUES = 2**20
# fp16 as whole numbers in the same order: from -65504 to 65504.
_SMALLEST_CODE, _LARGEST_CODE = 0x0400, 0xFBFF
_ID_BITS = 24


class Quantized(NamedTuple):
    """N labels as whole numbers, argmax first, then by value, then by id.

    `ids` int32 [N, k]; `below` int64 [N, k], the distance to the label's largest value; `numbers` int64 [N, E]: the
    largest value's code where values are fp16, then those that describe the absent classes.
    """

    ids: NDArray[np.int32]
    below: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @staticmethod
    def zeros(num_views: int, k: int, num_numbers: int) -> Quantized:
        """Room for labels to be decoded into."""
        return Quantized(
            np.zeros((num_views, k), dtype=np.int32),
            np.zeros((num_views, k), dtype=np.int64),
            np.zeros((num_views, num_numbers), dtype=np.int64),
        )


def quantize(block: LabelBlock, k: int, step: float | None, absent: Absent, temperature: float | None) -> Quantized:
    """The k largest logits of each view in whole steps, or as fp16 where `step` is None.

    Raises:
        ConfigError: the labels hold fewer than k classes, or do not say what absent classes have.
        DataError: a logit is NaN, infinite, beyond fp16, or too far from the others for the step.
    """
    block = block.without_ids()
    num_views, width = block.values.shape
    chunk = max(1, _CHUNK_VALUES // max(1, width))
    parts = []
    for first in range(0, max(1, num_views), chunk):
        part = block.take(slice(first, first + chunk)).logits
        ids, values, argmax = largest_logits(part, k, first)
        if step is None:
            codes = _half_codes(values, first)
            smallest: NDArray[np.float64] = values.astype(np.float16).min(axis=1).astype(np.float64)
            level = codes.max(axis=1, keepdims=True)
            below, numbers = level - codes, level
        else:
            steps = _whole_steps(values, step, first)
            smallest = steps.min(axis=1) * step
            below, numbers = steps.max(axis=1, keepdims=True) - steps, np.zeros((len(steps), 0), dtype=np.int64)
        levels = absent_levels(part, ids, absent, temperature, block.num_classes)
        others = absent_numbers(levels, smallest, absent, unit_of(absent, step))
        parts.append(Quantized(*_ordered(ids, below, argmax), np.concatenate([numbers, others], axis=1)))
    return Quantized(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def dequantize(labels: Quantized, num_classes: int, step: float | None, absent: Absent) -> Logits:
    """The inverse of `quantize`, up to rounding and, in steps, a shift: the largest value is 0.

    Raises:
        DataError: a value is not finite: the labels were decoded from damaged bytes.
    """
    ids, below, numbers = labels
    if step is None:
        codes = numbers[:, :1] - below
        if codes.min(initial=_LARGEST_CODE) < _SMALLEST_CODE or codes.max(initial=0) > _LARGEST_CODE:
            raise DataError("payload holds a value that fp16 does not have: the file is damaged")
        bits = np.where(codes & 0x8000, codes & 0x7FFF, 0xFFFF ^ codes)
        values: NDArray[Any] = bits.astype("<u2").view("<f2").astype(np.float64)
        numbers = numbers[:, 1:]
    else:
        values = below * -step
    # Zero, not minus zero.
    with np.errstate(over="ignore"):
        decoded = (values + 0.0).astype(np.float32)
        others = None
        if ids.shape[1] < num_classes:
            others = absent_logits(numbers, values.min(axis=1), absent, unit_of(absent, step))
    if not np.isfinite(decoded).all() or (others is not None and not np.isfinite(others).all()):
        raise DataError("payload holds a value that is not finite: the file is damaged")
    return Logits(ids, decoded, others)


def _half_codes(values: NDArray[np.floating[Any]], first: int) -> NDArray[np.int64]:
    """fp16 numbers as whole ones in the same order; -0 as 0."""
    bits = (as_half(values, first) + np.float16(0)).view("<u2").astype(np.int64)
    return np.where(bits & 0x8000, 0xFFFF ^ bits, bits | 0x8000)


def _whole_steps(values: NDArray[np.floating[Any]], step: float, first: int) -> NDArray[np.int64]:
    """Values in steps, rounded to the nearest, halves to even."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint(values.astype(np.float64) / step)
        span = steps.max(axis=1) - steps.min(axis=1)
        fits = (span <= LARGEST_NUMBER) & (np.abs(steps).max(axis=1) < 2**62) & (span * step < np.finfo(np.float32).max)
    if not fits.all():
        view = int(fits.argmin())
        raise DataError(
            f"view {first + view} has logits from {values[view].min():g} to {values[view].max():g}, too far apart for "
            f"steps of {step:g}: at most {LARGEST_NUMBER} steps, and float32's range, fit. Use a larger step"
        )
    return steps.astype(np.int64)


def _ordered(
    ids: NDArray[np.int32], below: NDArray[np.int64], argmax: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """By value, ties by id, the argmax first."""
    keys = (below << _ID_BITS) | ids
    np.put_along_axis(keys, argmax[:, None], -1, axis=1)
    keys.sort(axis=1)
    sorted_ids = (keys & ((1 << _ID_BITS) - 1)).astype(np.int32)
    sorted_ids[:, :1] = np.take_along_axis(ids, argmax[:, None], axis=1)
    sorted_below = keys >> _ID_BITS
    sorted_below[:, :1] = np.take_along_axis(below, argmax[:, None], axis=1)
    return sorted_ids, sorted_below
