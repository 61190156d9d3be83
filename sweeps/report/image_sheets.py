"""Many images as one picture."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lpqld.images import ImageSet, ranks_in_class

_MOST_CLASSES, _MOST_A_CLASS = 20, 5


def contact_sheet(pixels: NDArray[np.uint8], columns: int) -> bytes:
    """Images [B, 3, S, S] in rows of `columns`, as PNG; small ones are enlarged to about 64 pixels."""
    columns = min(columns, len(pixels))
    scale = max(1, 64 // pixels.shape[-1])
    large = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    side = large.shape[-1]
    rows = -(-len(pixels) // columns)
    sheet = np.full((rows * side, columns * side, 3), 255, dtype=np.uint8)
    for index, image in enumerate(large):
        top, left = index // columns * side, index % columns * side
        sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    return buffer.getvalue()


def side_by_side(images: ImageSet, others: ImageSet) -> bytes:
    """The first images of the first classes, a row a class, and beside them those of another set; as PNG."""
    first = [_first_of_classes(images), _first_of_classes(others)]
    gap = np.full((len(first[0]), 1, *images.pixels.shape[1:]), 255, dtype=np.uint8)
    rows = np.concatenate([first[0], gap, first[1]], axis=1)
    return contact_sheet(rows.reshape(-1, *rows.shape[2:]), rows.shape[1])


def _first_of_classes(images: ImageSet) -> NDArray[np.uint8]:
    """uint8 [C', n, 3, S, S]; white where a class has fewer."""
    num_classes = min(_MOST_CLASSES, images.num_classes)
    labels = images.labels.numpy()
    first = np.full((num_classes, _MOST_A_CLASS, *images.pixels.shape[1:]), 255, dtype=np.uint8)
    ranks = ranks_in_class(labels)
    rows = np.flatnonzero((labels < num_classes) & (ranks < _MOST_A_CLASS))
    first[labels[rows], ranks[rows]] = images.pixels.numpy()[rows]
    return first
