"""Drawn views as a table, for programs that read recorded ones: crops and boxes go to whole pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld.views.params import ViewParams
from lpqld.views.table import ViewTable


def table_of_drawn(params: ViewParams, *, num_images: int, side: int, batch_size: int, with_cutouts: bool) -> ViewTable:
    """Views without mixing, in batches of about `batch_size`.

    Args:
        params: of the views.
        num_images: of the image set.
        side: of its images in pixels.
        batch_size: of the batches, which differ by one view at most.
        with_cutouts: the views have boxes of one colour.
    """
    count = len(params)
    batches = np.array_split(np.arange(count), max(1, round(count / batch_size)))
    crops = np.rint(params.crop * np.float32(side))
    crops[:, 2:] = np.maximum(crops[:, 2:], 1)
    crops[:, :2] = np.minimum(crops[:, :2], side - crops[:, 2:])
    return ViewTable(
        num_images=num_images,
        side=side,
        rows=params.rows,
        crops=crops,
        crop_unit="pixel",
        flips=params.flip,
        labelled=np.ones(count, dtype=bool),
        batch_sizes=np.array([len(batch) for batch in batches]),
        cutouts=_centred(params.cutout, params.color, side) if with_cutouts else None,
    )


def _centred(boxes: NDArray[np.float32], colours: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """Clipped boxes of half the side, as a centre and a size, and colours from 0 to 255: [B, 7]."""
    half = side // 2
    start = np.rint(boxes[:, :2] * np.float32(side)).astype(np.int64)
    end = start + np.rint(boxes[:, 2:] * np.float32(side)).astype(np.int64)
    centres = np.where(start > 0, start + half // 2, end - half // 2).clip(0, side)
    sizes = np.full_like(centres, half)
    return np.concatenate([centres, sizes, np.rint(colours * 255).astype(np.int64)], axis=1)
