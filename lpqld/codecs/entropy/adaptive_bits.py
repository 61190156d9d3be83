"""Adaptive bits, and whole numbers made of them: the layer between the range coder and what it codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled
from lpqld.codecs.entropy.range_coder import ONE, code_bit, code_uniform

NUMBER_BITS = 24
LARGEST_NUMBER = 2**NUMBER_BITS - 1
NUMBER_CONTEXTS = 512
_SLOWEST = 255
_LENGTHS = 64
_RATES = np.array([655360 // (10 * count + 16) for count in range(_SLOWEST + 1)], dtype=np.int32)


def fresh_odds(count: int, first: int = ONE // 4) -> NDArray[np.int32]:
    """Probabilities, times 2**16, of bits that nothing is known of."""
    return np.full(count, first, dtype=np.int32)


@compiled
def bit_length(number):
    """Binary digits of a whole number."""
    length = np.int64(0)
    while number:
        length += 1
        number >>= 1
    return length


@compiled
def adapt(odds, counts, at, bit):
    """Move an adaptive bit's probability towards what was seen: by 1 / (n + 1.6) the n-th time, n at most 255."""
    # Rounded down, the steps end by themselves at about 2**-9 from 0 and 1.
    count = counts[at]
    if bit:
        odds[at] += np.int32(((ONE - np.int64(odds[at])) * _RATES[count]) >> 16)
    else:
        odds[at] -= np.int32((np.int64(odds[at]) * _RATES[count]) >> 16)
    if count < _SLOWEST:
        counts[at] = count + 1


@compiled
def code_adaptive(source, state, buffer, odds, counts, at, bit):
    """Code a bit with what is known of bits like it, and learn from it; returns the bit."""
    bit = code_bit(source, state, buffer, np.int64(odds[at]), bit)
    adapt(odds, counts, at, bit)
    return bit


@compiled
def code_number(source, state, buffer, odds, counts, kind, number):
    """Code a whole number below 2**24: its length in unary, three adaptive bits below the highest, others uniform."""
    base, wanted, length = kind * NUMBER_CONTEXTS, bit_length(number), np.int64(0)
    while length < NUMBER_BITS:
        if code_adaptive(source, state, buffer, odds, counts, base + length, wanted == length):
            break
        length += 1
    if length <= 1:
        return length
    value = np.int64(1)
    for position in range(length - 2, -1, -1):
        bit = ((number >> position) & 1) == 1
        if value < 8:
            bit = code_adaptive(source, state, buffer, odds, counts, base + _LENGTHS + length * 8 + value, bit)
        else:
            bit = code_bit(source, state, buffer, np.int64(ONE // 2), bit)
        value = (value << 1) | (1 if bit else 0)
    return value


@compiled
def code_value(source, state, buffer, odds, counts, context, value, largest, shift):
    """Code a value in 0 ... largest: its high part in adaptive unary, the `shift` low bits uniform."""
    high, wanted, end = np.int64(0), value >> shift, largest >> shift
    while high < end:
        if code_adaptive(source, state, buffer, odds, counts, context + high, wanted == high):
            break
        high += 1
    if shift:
        high = (high << shift) | code_uniform(source, state, buffer, 1 << shift, value & ((1 << shift) - 1))
    return min(high, largest)
