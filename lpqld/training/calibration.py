"""Calibrated alignment: how often, and on how many views, the student's temperature is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lpqld.training.dataset import ViewDataset
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.training.targets import SoftTargets
from lpqld.training.temperature import fit_student_temperature

# A view seen costs a third of a view trained on, so this share of the images is 3 % of an epoch.
_SHARE = 0.09
# Between these the fitted temperature spreads by 4 % and by 1 % (docs/method.md).
_FEWEST_VIEWS, _MOST_VIEWS = 64, 1024


@dataclass(frozen=True)
class CalibrationPlan:
    """When `fit` looks, and at how much.

    Attributes:
        num_views: views of a fit.
        interval: epochs between two fits, once the student is past its first ones.
    """

    num_views: int
    interval: int

    @classmethod
    def for_images(cls, num_images: int) -> CalibrationPlan:
        """A plan that costs about 3 % of training on so many images: fewer views, then, for small sets, fewer fits."""
        affordable = _SHARE * num_images
        num_views = min(num_images, int(min(max(affordable, _FEWEST_VIEWS), _MOST_VIEWS)))
        return cls(num_views, math.ceil(num_views / affordable))

    def is_due(self, epoch: int, last: int) -> bool:
        """Whether `epoch` fits again; `last` is the epoch that did, 0 for none. Early, when tau moves most, all do."""
        return epoch > 0 and epoch - last >= min(self.interval, max(1, epoch // 4))


@torch.no_grad()
def fit_on_views(
    student: Student, data: ViewDataset, recipe: Recipe, epoch: int, seed: int, teacher_temperature: float
) -> float:
    """The student temperature that fits the targets of `epoch`, on the first views that it is about to train on.

    The student is in evaluation mode meanwhile; views come in another order every epoch, so they rotate.
    """
    plan = CalibrationPlan.for_images(data.images.num_images)
    was_training = student.training
    student.eval()
    all_logits, parts, seen = [], [], 0
    for positions in data.batches(epoch, recipe.batch_size, seed):
        batch = data[positions[: plan.num_views - seen]]
        all_logits.append(student(batch.views).float())
        parts.append(batch.soft_targets(teacher_temperature))
        seen += len(batch.views)
        if seen >= plan.num_views:
            break
    student.train(was_training)
    return fit_student_temperature(torch.cat(all_logits), SoftTargets.concatenate(parts))
