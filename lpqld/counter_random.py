"""Counter-based random numbers: the same (seed, image, view) gives the same numbers on any worker, in any order.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), computed for many counters at
once. Only its raw 64-bit words are used; the few lines that turn them into numbers are here, so that no library
release can change a draw.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_LOW_HALF = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10

Words = NDArray[np.uint64]


@unique
class Stream(IntEnum):
    """What random numbers are for. Two uses of one stream would draw the same numbers; a number is never used anew."""

    VIEWS = 1  # parameters of augmented views
    ORDER = 2  # of views in an epoch
    CLASS_SAMPLE = 3  # images of each class
    SPLIT = 4  # of an image set in two
    FIDELITY_SAMPLE = 5  # views whose labels are recomputed
    RECOVER = 8  # crops and flips while images are recovered
    START = 9  # images that recovery starts from
    TRAINING_IMAGE_SAMPLE = 10  # real images that recovery starts from


def _multiply(a: np.uint64, b: Words) -> tuple[Words, Words]:
    """High and low 64 bits of the 128-bit product."""
    a_low, a_high = a & _LOW_HALF, a >> _HALF
    b_low, b_high = b & _LOW_HALF, b >> _HALF
    middle = a_high * b_low + ((a_low * b_low) >> _HALF)
    other = a_low * b_high + (middle & _LOW_HALF)
    return a_high * b_high + (middle >> _HALF) + (other >> _HALF), a * b


def random_words(seed: int, stream: int, image_ids: NDArray[np.int64], views: NDArray[np.int64], block: int) -> Words:
    """Four 64-bit words for every (image, view): Philox4x64-10 at counter (block, view, image, 0), key (seed, stream).

    Args:
        seed: in [0, 2**64).
        stream: what the numbers are for, in [0, 2**64).
        image_ids: [B].
        views: view numbers, [B].
        block: which four words of this view.

    Returns:
        uint64 [4, B].
    """
    with np.errstate(over="ignore"):
        c0 = np.full(len(image_ids), block, dtype=np.uint64)
        c1, c2 = views.astype(np.uint64), image_ids.astype(np.uint64)
        c3 = np.zeros_like(c0)
        k0, k1 = np.uint64(seed), np.uint64(stream)
        for _ in range(_ROUNDS):
            high0, low0 = _multiply(_MULTIPLIERS[0], c0)
            high1, low1 = _multiply(_MULTIPLIERS[1], c2)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([c0, c1, c2, c3])


def uniform(words: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) from the upper 53 bits of each word."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, stream: int, epoch: int, size: int) -> NDArray[np.int64]:
    """A permutation of 0 ... size - 1 that depends on (seed, stream, epoch) alone."""
    index = np.arange(size, dtype=np.int64)
    words = random_words(seed, stream, index, np.full(size, epoch, dtype=np.int64), block=0)[0]
    return np.argsort(words, kind="stable")
