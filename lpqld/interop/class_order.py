"""Whether the classes of images are in the order that a teacher has them in: the field's most frequent mistake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.images import ImageSet
from lpqld.models import Teacher, predict

_BATCH = 100
# Of the images of a class: a teacher that takes half of them for one other class is sure of something.
_SURE = 0.5


@dataclass(frozen=True)
class ClassOrder:
    """What a teacher makes of each class.

    Attributes:
        accuracy: share of the images that it takes for their class.
        best: the class that it takes most images of each class for, int64 [C].
        best_shares: of each class, the share of its images that it takes for that one, float64 [C].
    """

    accuracy: float
    best: NDArray[np.int64]
    best_shares: NDArray[np.float64]

    @property
    def exchanged(self) -> list[int]:
        """Classes that are in each other's places: one taken for the next, and so on in a circle, half of each or more.

        A teacher that only confuses classes takes them for one that it takes for itself.
        """
        sure = {label: int(to) for label, to in enumerate(self.best) if self.best_shares[label] >= _SURE}
        found: set[int] = set()
        for label, place in sure.items():
            path = [label]
            while place in sure and place not in path and place not in found:
                path.append(place)
                place = sure[place]  # noqa: PLW2901
            if place == label and len(path) > 1:
                found.update(path)
        return sorted(found)


@torch.inference_mode()
def class_order(teacher: Teacher, images: ImageSet, device: torch.device | None = None) -> ClassOrder:
    """Ask a teacher what the images are.

    Args:
        teacher: of as many classes as the images have.
        images: of every class at least one.
        device: where the teacher runs; default: where it is.
    """
    place = device or torch.device("cpu")
    teacher = teacher.to(place).eval()
    predicted = torch.cat([logits.argmax(1).cpu() for logits in predict(teacher, images, _BATCH)]).numpy()
    labels, count = images.labels.numpy(), images.num_classes
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (labels, predicted), 1)
    best = table.argmax(axis=1)
    shares = table[np.arange(count), best] / np.maximum(table.sum(axis=1), 1)
    return ClassOrder(float(np.trace(table) / len(labels)), best, shares)
