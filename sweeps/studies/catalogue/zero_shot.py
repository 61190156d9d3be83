"""A class whose images are removed, or whose share of other labels is: what students still know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from lpqld.training import schedule_parts
from sweeps.studies.case import Case
from sweeps.studies.case_labels import ImageLabels
from sweeps.studies.edits import Edit
from sweeps.studies.panels import by_name, images_of_a_class
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs

Logits = NDArray[np.floating]
# So many nats below the largest logit of the others, a class has no probability that a float32 student could see.
_NOTHING = 100.0


@dataclass(frozen=True)
class _AboutClass(Edit):
    """What removes something of a class, or stands beside those that do."""

    removed: int

    @property
    def measured_class(self) -> int:
        """The class, from 0."""
        return self.removed

    @property
    def unchanged(self) -> Edit:
        """The control of the same class."""
        return Control(self.removed)


@dataclass(frozen=True)
class Control(_AboutClass):
    """Unchanged labels; the accuracy of their students on the class is measured as well."""

    name: ClassVar[str] = "control"

    @property
    def params(self) -> dict[str, Any]:
        """The class alone: nothing is done to the labels."""
        return {"removed": self.removed}

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """The same labels."""
        return labels


@dataclass(frozen=True)
class WithoutImages(_AboutClass):
    """The images of a class and their labels are removed."""

    name: ClassVar[str] = "without-images"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """The labels of all other images."""
        left = np.flatnonzero(labels.classes != self.removed)
        return replace(labels, images=labels.images.take(left), logits=labels.logits[left])


@dataclass(frozen=True)
class WithoutMass(_AboutClass):
    """A class is removed from the labels of other images; each weighs in the loss what probability it is left with."""

    name: ClassVar[str] = "without-mass"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels and weights after `without_class`."""
        logits, mass = without_class(labels.logits, labels.classes, self.removed)
        return labels.with_logits(logits, weights=mass)


@dataclass(frozen=True)
class WithoutMassRenormalised(_AboutClass):
    """A class is removed from the labels of other images, and the rest is brought to 1."""

    name: ClassVar[str] = "without-mass-renormalised"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels after `without_class`."""
        logits, _ = without_class(labels.logits, labels.classes, self.removed)
        return labels.with_logits(logits)


def without_class(logits: Logits, classes: NDArray[np.integer], removed: int) -> tuple[Logits, NDArray[np.float64]]:
    """Labels that give a class nothing, but those of its own images; and what probability each is left with.

    Args:
        logits: [N, C].
        classes: of the images, [N].
        removed: the class, from 0.

    Returns:
        Logits [N, C], whose softmax is what remains, brought to 1; and the share [N] that remained before that.
    """
    others = classes != removed
    remaining = logits.copy()
    remaining[others, removed] = np.delete(logits[others], removed, axis=1).max(axis=1) - _NOTHING
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    mass = np.where(others, 1 - exponentials[:, removed] / exponentials.sum(axis=1), 1.0)
    return remaining, mass


def _cases(inputs: StudyInputs) -> list[Case]:
    config = inputs.config
    if bad := [label for label in config.removed if label >= inputs.num_classes]:
        raise ConfigError(f"removed: class {bad[0]}, and there are {inputs.num_classes} from 0")
    if set(schedule_parts(config.student.temperature)[:2]) != {1.0}:
        raise ConfigError(
            f"student.temperature {config.student.temperature}: zero-shot removes a class's share of labels as they"
            " are, at a temperature of 1"
        )
    epoch = inputs.expert_epoch()
    return [
        Case(ipc, epoch, edit=edit(removed))
        for ipc in config.ipc
        for removed in config.removed
        for edit in (Control, WithoutImages, WithoutMass, WithoutMassRenormalised)
    ]


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    panel = partial(
        by_name,
        results=results,
        at=lambda result: str(result.case.edit),
        series=lambda result: f"{images_of_a_class(result.case.ipc)}, class {result.case.edit.measured_class}",
    )
    of_class = partial(panel, measured=lambda result: result.class_accuracy or result.accuracy)
    return [partial(of_class, what="of the removed class "), partial(panel, what="of all classes ")]


STUDY = Study(
    name="zero-shot",
    about="a class whose images are removed, or whose share of other labels is",
    cases=_cases,
    panels=_panels,
)
