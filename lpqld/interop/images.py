"""Images of other projects as an image set of ours: named classes, in the teacher's order, with their soft labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import DataError, few
from lpqld.images import ImageSet, default_names, positions
from lpqld.interop.array_images import TensorImages
from lpqld.interop.class_order import class_order
from lpqld.labels import EncodedLabels, whole_image_labels
from lpqld.models import Teacher

# SRe2L and its descendants call class folders new000, new001 and so on; others class_0, or plain numbers.
_NUMBERED = re.compile(r"(?:new|class)?[-_]?\d+")
_SMALLEST = 1e-6  # of a probability, as a logit


def of_tensors(found: TensorImages, source: str) -> ImageSet:
    """The images of arrays as a set."""
    count = len(found.pixels)
    return ImageSet(
        pixels=torch.from_numpy(np.ascontiguousarray(found.pixels)),
        labels=torch.from_numpy(found.labels),
        class_names=default_names(found.num_classes),
        ids=np.arange(count, dtype=np.int64),
        encoded_bytes=np.zeros(count, dtype=np.int64),
        source=source,
    )


def named(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """The same images with the classes that `names` lists in order: by name, or by number where theirs are numbers.

    Raises:
        DataError: there are other numbers of them, or other names.
    """
    if len(names) != images.num_classes:
        raise DataError(f"{images.source}: {images.num_classes} classes, and {len(names)} class names are given")
    if all(_NUMBERED.fullmatch(name) for name in images.class_names):
        return replace(images, class_names=tuple(names))
    places = positions(names, images.class_names)
    unknown = [name for name, place in zip(names, places, strict=True) if place is None]
    if unknown:
        raise DataError(
            f"{images.source}: its classes are {few(images.class_names)}; not among them: {few(unknown)}. Give the "
            f"names that its folders have"
        )
    new_label = np.argsort(np.array(places, dtype=np.int64))
    labels = new_label[images.labels.numpy()]
    order = np.argsort(labels, kind="stable")
    moved = images.take(order)
    return replace(
        moved,
        labels=torch.from_numpy(labels[order]),
        class_names=tuple(names),
        ids=np.arange(len(order), dtype=np.int64),
    )


def check_class_order(images: ImageSet, teacher: Teacher) -> float:
    """The accuracy of a teacher on the images.

    Raises:
        DataError: it knows their classes, but in another order; the message says which.
    """
    found = class_order(teacher, images)
    if exchanged := found.exchanged:
        names = images.class_names
        said = [f"{names[label]!r} it calls {names[found.best[label]]!r}" for label in exchanged]
        raise DataError(
            f"{images.source}: {len(exchanged)} of {images.num_classes} classes are in another order than the "
            f"teacher's, which is right on {found.accuracy:.1%} of the images: {few(said, 3)}. Pass `class_names` with "
            f"the names in the order of the images' numbers or folders"
        )
    return found.accuracy


def soft_labels(images: ImageSet, soft: NDArray[np.float32]) -> EncodedLabels:
    """A label set of one view an image, the whole of it, from soft labels.

    Args:
        images: in the order of `soft`.
        soft: probabilities, or logits, [N, C].
    """
    sums = soft.sum(axis=1)
    if soft.min() >= 0 and np.allclose(sums, 1, atol=1e-2):
        soft = np.log(np.maximum(soft / sums[:, None], _SMALLEST)).astype(np.float32)
    return whole_image_labels(images, soft)
