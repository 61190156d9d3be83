"""Hard, argmax and smoothed labels beside soft ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import TopK
from lpqld.errors import ConfigError
from sweeps.studies.case import Case
from sweeps.studies.case_labels import ImageLabels
from sweeps.studies.edits import Edit, Hard
from sweeps.studies.panels import by_name
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs


@dataclass(frozen=True)
class Argmax(Edit):
    """The experts' most probable class alone."""

    name: ClassVar[str] = "argmax"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels that are stored as one class."""
        return replace(labels, codec=TopK(1))


@dataclass(frozen=True)
class Smoothed(Edit):
    """Hard labels, of which a share `epsilon` goes to all classes alike."""

    name: ClassVar[str] = "smoothed"
    epsilon: float

    @property
    def value(self) -> float:
        """The share that is smoothed away."""
        return self.epsilon

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels of the images' classes after `smoothed`."""
        return labels.with_logits(smoothed(labels.classes, labels.images.num_classes, self.epsilon))


def smoothed(classes: NDArray[np.integer], num_classes: int, epsilon: float) -> NDArray[np.float32]:
    """Logits of smoothed hard labels: the class has 1 - epsilon + epsilon / C, every other epsilon / C.

    Args:
        classes: [N], from 0.
        num_classes: C.
        epsilon: in (0, 1].

    Raises:
        ConfigError: epsilon is out of range.
    """
    if not 0 < epsilon <= 1:
        raise ConfigError(f"label smoothing must be above 0, up to 1, found {epsilon}")
    logits = np.full((len(classes), num_classes), np.log(epsilon / num_classes), dtype=np.float64)
    logits[np.arange(len(classes)), classes] = np.log(1 - epsilon + epsilon / num_classes)
    return logits.astype(np.float32)


def _cases(inputs: StudyInputs) -> list[Case]:
    epoch, cases = inputs.expert_epoch(), list[Case]()
    for ipc in inputs.config.ipc:
        cases += [Case(ipc, epoch), Case(ipc, epoch, edit=Argmax()), Case(ipc, edit=Hard())]
        cases += [Case(ipc, edit=Smoothed(epsilon)) for epsilon in inputs.config.smoothing]
    return cases


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    return [partial(by_name, results=results, at=lambda result: str(result.case.edit))]


STUDY = Study(
    name="hard",
    about="hard, argmax and smoothed labels beside soft ones",
    cases=_cases,
    panels=_panels,
)
