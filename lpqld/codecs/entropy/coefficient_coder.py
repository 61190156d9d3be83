"""Coefficients of low-rank labels through the range coder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled
from lpqld.codecs.entropy.adaptive_bits import code_number
from lpqld.codecs.entropy.range_coder import ONE, POSITION, Buffer, State, code_bit


@compiled
def code_coefficients(
    source: bool | None,
    state: State,
    buffer: Buffer,
    odds: NDArray[np.int32],
    counts: NDArray[np.int32],
    whole_Nr: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> None:
    """Each coefficient's magnitude, adaptive by direction, and its sign."""
    for view in range(len(whole_Nr)):
        for direction in range(whole_Nr.shape[1]):
            value = whole_Nr[view, direction]
            magnitude = code_number(source, state, buffer, odds, counts, direction, abs(value))
            negative = value < 0
            if magnitude > 0:
                negative = code_bit(source, state, buffer, np.int64(ONE // 2), negative)
            whole_Nr[view, direction] = -magnitude if negative else magnitude
        sizes[view] = state[POSITION] + 1
