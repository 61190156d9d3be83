"""Calibrated alignment: how the student's temperature follows the teacher's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lpqld.training.dataset import ViewDataset
from lpqld.training.ranks import Ranks
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.training.targets import SoftTargets
from lpqld.training.temperature import fit_student_temperature, grid_losses, least_of_grid

# A view seen costs a third of a view trained on, so this share of the images is 3 % of an epoch.
_SHARE = 0.09
# Between these the fitted temperature spreads by 4 % and by 1 % (docs/method.md).
_FEWEST_VIEWS = 64
_MOST_VIEWS = 1024


class Calibration:
    """How the student's temperature follows the teacher's; a member overrides what it needs of the three calls.

    Attributes:
        student_temperature: the one of the coming steps, 1 until it is calibrated.
    """

    def __init__(self, student: Student, data: ViewDataset, recipe: Recipe, *, seed: int, ranks: Ranks) -> None:
        """Calibrate `student` on the labels of `data`; arguments as of `loop.train`."""
        self._student = student
        self._data = data
        self._recipe = recipe
        self._seed = seed
        self._ranks = ranks
        self.student_temperature = 1.0
        self._last_fit = 0  # an epoch

    def before_epoch(self, epoch: int, label_epoch: int | None, teacher_temperature: float) -> None:
        """Called before the steps of every epoch.

        Args:
            epoch: from 0.
            label_epoch: which epoch of the label set it is, from 0; None where it is one of hard labels.
            teacher_temperature: of this epoch.
        """

    def gather(self, logits: torch.Tensor, targets: SoftTargets, *, begins_step: bool) -> None:
        """Called with every part of every step, but for those of hard labels.

        Args:
            logits: the student's in training mode, detached, [B, C].
            targets: of the same views.
            begins_step: whether this is the first part of its step.
        """

    def after_epoch(self) -> None:
        """Called after the steps of every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"student_temperature": self.student_temperature, "calibrated": self._last_fit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the end of an epoch."""
        self.student_temperature = state["student_temperature"]
        self._last_fit = state["calibrated"]


class EqualTemperature(Calibration):
    """Off: the student's temperature is the teacher's."""

    def before_epoch(self, epoch: int, label_epoch: int | None, teacher_temperature: float) -> None:
        """Take the teacher's."""
        self.student_temperature = teacher_temperature


class FittedTemperature(Calibration):
    """The temperature that fits the targets of the coming epoch best, on some of its views, every few epochs."""

    def __init__(self, student: Student, data: ViewDataset, recipe: Recipe, *, seed: int, ranks: Ranks) -> None:
        super().__init__(student, data, recipe, seed=seed, ranks=ranks)
        self._plan = CalibrationPlan.for_images(data.images.num_images)

    def before_epoch(self, epoch: int, label_epoch: int | None, teacher_temperature: float) -> None:
        """Fit, where the plan says so."""
        if label_epoch is None or not self._plan.is_due(epoch, self._last_fit):
            return
        fitted = fit_on_views(self._student, self._data, self._recipe, label_epoch, self._seed, teacher_temperature)
        self.student_temperature = self._ranks.from_first(fitted)
        self._last_fit = epoch


class PaperTemperature(Calibration):
    """The paper's: after an epoch, the one of 0.01, 0.02, ... 1.00 that fits the logits of its last step best."""

    def __init__(self, student: Student, data: ViewDataset, recipe: Recipe, *, seed: int, ranks: Ranks) -> None:
        super().__init__(student, data, recipe, seed=seed, ranks=ranks)
        self._last_step: list[tuple[torch.Tensor, SoftTargets]] = []

    def gather(self, logits: torch.Tensor, targets: SoftTargets, *, begins_step: bool) -> None:
        """Hold the parts of this step instead of those of the step before."""
        if begins_step:
            self._last_step.clear()
        self._last_step.append((logits, targets))

    def after_epoch(self) -> None:
        """Choose by the last step of all ranks; nothing after an epoch of hard labels."""
        if not self._last_step:
            return
        losses = torch.stack([grid_losses(*part) for part in self._last_step]).sum(0)
        self.student_temperature = least_of_grid(self._ranks.summed(losses))
        self._last_step.clear()


CALIBRATION_TYPES: dict[str, Callable[..., Calibration]] = {
    "off": EqualTemperature,
    "fit": FittedTemperature,
    "paper": PaperTemperature,
}


@dataclass(frozen=True)
class CalibrationPlan:
    """When `FittedTemperature` looks, and at how much.

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
    num_views = CalibrationPlan.for_images(data.images.num_images).num_views
    was_training = student.training
    student.eval()
    all_logits: list[torch.Tensor] = []
    all_targets: list[SoftTargets] = []
    num_seen = 0
    for positions in data.batches(epoch, recipe.batch_size, seed):
        batch = data[positions[: num_views - num_seen]]
        all_logits.append(student(batch.views).float())
        all_targets.append(batch.soft_targets(teacher_temperature))
        num_seen += len(batch.views)
        if num_seen >= num_views:
            break
    student.train(was_training)
    return fit_student_temperature(torch.cat(all_logits), SoftTargets.concatenate(all_targets))
