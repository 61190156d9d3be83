"""Lay unsigned integers of a fixed number of bits end to end, highest bit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` integers of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(values: NDArray[np.integer], bits: int) -> bytes:
    """The low `bits` bits (0 to 32) of each of `values`, flattened, as bytes."""
    if bits == 0:
        return b""
    big_endian = values.reshape(-1).astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.packbits(np.unpackbits(big_endian, axis=1)[:, 32 - bits :]).tobytes()


def unpack(packed: bytes, count: int, bits: int) -> NDArray[np.int64]:
    """The inverse of `pack`: int64 [count]."""
    if bits == 0:
        return np.zeros(count, dtype=np.int64)
    spread = np.zeros((count, 32), dtype=np.uint8)
    spread[:, 32 - bits :] = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count * bits).reshape(
        count, bits
    )
    return np.packbits(spread, axis=1).view(">u4").reshape(count).astype(np.int64)
