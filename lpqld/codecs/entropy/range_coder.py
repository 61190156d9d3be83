"""A binary and multi-symbol range coder with 48-bit state, compiled by numba.

After Martin (1979) and Schindler (1998). One set of functions encodes and decodes: `source` is None when encoding and
anything else when decoding, which numba resolves at compile time, so that the two directions cannot drift apart.

The state is int64 [3]: `low` (when decoding: the code minus low), `range`, and the position in the buffer. Only
integers below 2**57 occur, so every machine computes the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled

State = NDArray[np.int64]
Buffer = NDArray[np.uint8]
LOW, RANGE, POSITION = 0, 1, 2
STATE_BYTES = 6
_FULL, SMALLEST_RANGE = 1 << 48, 1 << 40
_MASK = _FULL - 1
PROBABILITY_BITS = 16
ONE = 1 << PROBABILITY_BITS
LARGEST_TOTAL = 1 << 24


def start_encoding() -> NDArray[np.int64]:
    """A fresh state for an empty buffer."""
    return np.array([0, _FULL, 0], dtype=np.int64)


def start_decoding(payload: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A state that has read the first bytes of `payload`; beyond its end come zeros."""
    head = payload[:STATE_BYTES].tobytes().ljust(STATE_BYTES, b"\0")
    return np.array([int.from_bytes(head, "big"), _FULL, STATE_BYTES], dtype=np.int64)


def finish(state: NDArray[np.int64], buffer: NDArray[np.uint8]) -> int:
    """Write the one byte that pins down what was encoded; returns the length of the payload."""
    position, last = int(state[POSITION]), -(-int(state[LOW]) // SMALLEST_RANGE)
    if last > 255:
        _carry(state, buffer)
    buffer[position] = last & 255
    return position + 1


def with_room(buffer: NDArray[np.uint8], num_bytes: int) -> NDArray[np.uint8]:
    """The buffer, or a longer one that begins with it, of at least `num_bytes`."""
    if len(buffer) >= num_bytes:
        return buffer
    return np.concatenate([buffer, np.zeros(num_bytes, dtype=np.uint8)])


def is_past(state: NDArray[np.int64], num_bytes: int) -> bool:
    """Whether a decoder has read so far beyond a payload of `num_bytes` that it cannot be whole any more."""
    return int(state[POSITION]) > num_bytes + STATE_BYTES


def is_whole(state: NDArray[np.int64], num_bytes: int) -> bool:
    """Whether a payload of `num_bytes` is as long as what was decoded from it: no byte missing, none left over."""
    return int(state[POSITION]) - STATE_BYTES + 1 == num_bytes


@compiled
def _carry(state, buffer):
    """Add one to the bytes already written."""
    at = state[2] - 1
    while buffer[at] == 255:
        buffer[at] = 0
        at -= 1
    buffer[at] += 1


@compiled
def normalise(source, state, buffer):
    """Move whole bytes out of (into) the state until `range` is at least 2**40 again."""
    if source is None:
        if state[0] >= _FULL:
            state[0] &= _MASK
            _carry(state, buffer)
        while state[1] < SMALLEST_RANGE:
            buffer[state[2]] = state[0] >> 40
            state[0] = (state[0] << 8) & _MASK
            state[1] <<= 8
            state[2] += 1
    else:
        while state[1] < SMALLEST_RANGE:
            byte = np.int64(0)
            if state[2] < len(buffer):
                byte = np.int64(buffer[state[2]])
            state[0] = (state[0] << 8) | byte
            state[1] <<= 8
            state[2] += 1


@compiled
def code_bit(source, state, buffer, probability, bit):
    """Code a bit that is set with `probability` / 2**16, in 1 ... 2**16 - 1; returns the bit."""
    bound = (state[1] >> PROBABILITY_BITS) * probability
    if source is not None:
        bit = state[0] < bound
    if bit:
        state[1] = bound
    else:
        state[1] -= bound
        if source is None:
            state[0] += bound
        else:
            state[0] -= bound
    if state[1] < SMALLEST_RANGE:
        normalise(source, state, buffer)
    return bit


@compiled
def look(state, total):
    """Where in 0 ... total - 1 the next symbol points; decoding only."""
    return min(state[0] // (state[1] // total), total - 1)


@compiled
def code_part(source, state, buffer, start, size, total):
    """Code the part [start, start + size) of 0 ... total, total at most 2**24; the last part gets the remainder."""
    unit = state[1] // total
    if start + size == total:
        state[1] -= unit * start
    else:
        state[1] = unit * size
    if source is None:
        state[0] += unit * start
    else:
        state[0] -= unit * start
    normalise(source, state, buffer)


@compiled
def code_uniform(source, state, buffer, total, value):
    """Code `value` in 0 ... total - 1, all equally likely, total at most 2**24; returns it."""
    if total <= 1:
        return np.int64(0)
    if source is not None:
        value = look(state, total)
    code_part(source, state, buffer, value, 1, total)
    return np.int64(value)
