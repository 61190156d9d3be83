"""What one epoch of a student's training is made of."""

from __future__ import annotations

from dataclasses import dataclass

from lpqld.training.dataset import ViewDataset


@dataclass(frozen=True)
class EpochPlan:
    """The views of an epoch, and at which temperatures it trains on them.

    Attributes:
        epoch: from 0.
        views: with labels of the set, or with hard ones.
        number: which epoch of `views` it is, so that none of theirs is skipped.
        is_hard: whether its labels are hard.
        teacher_temperature: of the targets.
        student_temperature: as calibrated.
        scale: of the loss, before its gradient.
    """

    epoch: int
    views: ViewDataset
    number: int
    is_hard: bool
    teacher_temperature: float
    student_temperature: float
    scale: float

    @property
    def loss_temperature(self) -> float:
        """The student's in the loss: hard labels are those of a temperature of 1."""
        return 1.0 if self.is_hard else self.student_temperature
