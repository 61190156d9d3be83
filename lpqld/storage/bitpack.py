"""Lay unsigned integers of a fixed number of bits end to end, highest bit first, zeros up to a whole byte."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Count = TypeVar("Count", int, NDArray[np.int64])


def packed_size(count: Count, bits: int) -> Count:
    """Bytes that `count` integers of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(values: NDArray[np.integer[Any]], bits: int) -> bytes:
    """The low `bits` bits (0 to 63) of each of `values`, flattened, as bytes."""
    flat = values.reshape(-1)
    spread = np.empty((len(flat), bits), dtype=np.uint8)
    for place in range(bits):
        spread[:, place] = flat >> (bits - 1 - place) & 1
    return np.packbits(spread).tobytes()


def unpack(packed: bytes, count: int, bits: int) -> NDArray[np.int64]:
    """The inverse of `pack`: int64 [count]."""
    spread = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count * bits)
    values = np.zeros(count, dtype=np.int64)
    for column in spread.reshape(count, bits).T:
        values <<= 1
        values |= column
    return values
