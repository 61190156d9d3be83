"""Random boxes in shares of an image's side: crops, and what CutMix and cutout cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld.counter_random import random_words, uniform

_CROP_ATTEMPTS = 10


def rounded(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractions on a grid of 2**-16, so that a last-bit difference between machines' libm does not show."""
    return np.rint(fractions * 65536) / 65536


def clipped_box(
    centre_y: NDArray[np.float64], centre_x: NDArray[np.float64], side: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Boxes (top, left, height, width) [B, 4] of `side` around a centre, clipped to the image."""
    top, bottom = np.clip(centre_y - side / 2, 0, 1), np.clip(centre_y + side / 2, 0, 1)
    left, right = np.clip(centre_x - side / 2, 0, 1), np.clip(centre_x + side / 2, 0, 1)
    return rounded(np.stack([top, left, bottom - top, right - left], axis=1)).astype(np.float32)


def draw_crops(
    seed: int,
    stream: int,
    ids: NDArray[np.int64],
    views: NDArray[np.int64],
    block: int,
    low: float | NDArray[np.float64],
    high: float,
    ratio: tuple[float, float],
) -> NDArray[np.float32]:
    """Random resized crops [B, 4], (top, left, height, width) in shares of the side.

    Each is the first of ten attempts that fits the image, else the whole image.

    Args:
        seed, stream, block: of `counter_random.random_words`; ten blocks from `block` on.
        ids, views: [B].
        low, high: smallest (also for each, [B]) and largest share of the area.
        ratio: smallest and largest width / height.
    """
    crops = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(ids), 1))
    pending, lows = np.arange(len(ids)), np.broadcast_to(low, len(ids))
    for attempt in range(_CROP_ATTEMPTS):
        if not len(pending):
            break
        words = random_words(seed, stream, ids[pending], views[pending], block + attempt)
        u_area, u_ratio, u_top, u_left = uniform(words)
        area = lows[pending] + (high - lows[pending]) * u_area
        aspect = ratio[0] * (ratio[1] / ratio[0]) ** u_ratio
        height, width = rounded(np.sqrt(area / aspect)), rounded(np.sqrt(area * aspect))
        fits = (height <= 1) & (width <= 1)
        crop = np.stack([rounded(u_top * (1 - height)), rounded(u_left * (1 - width)), height, width], axis=1)
        crops[pending[fits]] = crop[fits]
        pending = pending[~fits]
    return crops
