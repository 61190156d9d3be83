"""Views on a CPU: one pass over the output, a row at a time, compiled.

Crops are upright boxes, so bilinear interpolation is separable: two source rows are blended, then two neighbours in
that row. Of a CutMix view each pixel is computed once, from the image that it shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled, inlined


@inlined
def _taps(start, length, flip, side, index, weight):
    """Where each of `side` output pixels lies between source pixels `index` and the next: `weight` of the next.

    Pixel centres are at x + 1/2 (torch's `align_corners=False`); beyond the border its pixels repeat.
    """
    for x in range(side):
        place = side - 1 - x if flip else x
        source = min(max(length * (place + 0.5) + start * side - 0.5, 0.0), side - 1.0)
        first = min(int(source), max(side - 2, 0))
        index[x] = first
        weight[x] = np.float32(source - first)


@inlined
def _fill(out, plane, taps, y, start, end, blended):
    """Pixels `start` to `end` - 1 of row `y` of a view's channel, in [0, 255], into `out`; `blended` is for scratch."""
    rows, row_weights, columns, column_weights = taps
    if start < end:
        one, other = columns[start], columns[end - 1]
        low, high = min(one, other), min(max(one, other) + 2, plane.shape[0])
        above, below = plane[rows[y]], plane[min(rows[y] + 1, plane.shape[0] - 1)]
        weight = row_weights[y]
        for x in range(low, high):
            top = np.float32(above[x])
            blended[x] = top + weight * (np.float32(below[x]) - top)
        for x in range(start, end):
            left = blended[columns[x]]
            out[x] = left + column_weights[x] * (blended[columns[x] + 1] - left)


@inlined
def _new_taps(side):
    """Room for the taps of all rows and of all columns."""
    rows, columns = np.empty(side, np.int64), np.empty(side, np.int64)
    return rows, np.empty(side, np.float32), columns, np.empty(side, np.float32)


@compiled
def render_views(
    pixels: NDArray[np.uint8],
    first: int,
    last: int,
    rows: NDArray[np.int64],
    crop: NDArray[np.float32],
    flip: NDArray[np.bool_],
    partner: NDArray[np.int64],
    partner_crop: NDArray[np.float32],
    partner_flip: NDArray[np.bool_],
    lam: NDArray[np.float32],
    box: NDArray[np.int64],
    cutout: NDArray[np.int64],
    color: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Render views `first` to `last` - 1 into `out`, float32 [B, S, S, 3]; the rest as in `views.ViewParams`.

    `box` and `cutout` are (top, left, bottom, right) in pixels, int64 [B, 4].
    """
    side = pixels.shape[2]
    own, others = _new_taps(side), _new_taps(side)
    blended = np.zeros(side + 1, np.float32)  # one more: a view one pixel wide has no next pixel
    line, other = np.empty((3, side), np.float32), np.empty(side, np.float32)
    for b in range(first, last):
        mixed, boxed = lam[b] < 1, box[b, 2] > box[b, 0] and box[b, 3] > box[b, 1]
        _taps(crop[b, 0], crop[b, 2], False, side, own[0], own[1])
        _taps(crop[b, 1], crop[b, 3], flip[b], side, own[2], own[3])
        if mixed or boxed:
            _taps(partner_crop[b, 0], partner_crop[b, 2], False, side, others[0], others[1])
            _taps(partner_crop[b, 1], partner_crop[b, 3], partner_flip[b], side, others[2], others[3])
        for y in range(side):
            inside = boxed and box[b, 0] <= y < box[b, 2]
            left, right = (box[b, 1], box[b, 3]) if inside else (side, side)
            for c in range(3):
                plane, partner_plane = pixels[rows[b], c], pixels[partner[b], c]
                _fill(line[c], plane, own, y, 0, left, blended)
                _fill(line[c], partner_plane, others, y, left, right, blended)
                _fill(line[c], plane, own, y, right, side, blended)
                if mixed:
                    _fill(other, partner_plane, others, y, 0, side, blended)
                    for x in range(side):
                        line[c, x] = other[x] + lam[b] * (line[c, x] - other[x])
            for x in range(side):
                for c in range(3):
                    out[b, y, x, c] = line[c, x] * np.float32(1 / 255)
            if cutout[b, 0] <= y < cutout[b, 2]:
                for x in range(cutout[b, 1], cutout[b, 3]):
                    for c in range(3):
                        out[b, y, x, c] = color[b, c]
