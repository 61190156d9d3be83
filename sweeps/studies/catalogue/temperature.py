"""Labels softened at a temperature, by the epoch of the expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from sweeps.studies.case import Case
from sweeps.studies.case_labels import ImageLabels
from sweeps.studies.edits import Edit
from sweeps.studies.panels import images_of_a_class, lines
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs


@dataclass(frozen=True)
class Softened(Edit):
    """Labels whose softmax at 1 is that of the experts' logits at a temperature above 0."""

    name: ClassVar[str] = "softened"
    temperature: float

    @property
    def value(self) -> float:
        """The temperature."""
        return self.temperature

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Logits divided by the temperature; ConfigError where it is not above 0."""
        return labels.with_logits(softened(labels.logits, self.temperature))


def softened(logits: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Labels whose softmax at 1 is that of `logits` at `temperature`, above 0.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ConfigError(f"a label's temperature must be above 0, found {temperature}")
    return logits / temperature


def temperature_of(case: Case) -> float:
    """That of the labels of a case; unchanged ones have 1."""
    return case.edit.value or 1.0


def _cases(inputs: StudyInputs) -> list[Case]:
    return [
        Case(ipc, epoch) if temperature == 1 else Case(ipc, epoch, edit=Softened(temperature))
        for ipc in inputs.config.ipc
        for epoch in inputs.epochs
        for temperature in inputs.config.temperatures
    ]


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    return [
        partial(
            lines,
            results=[result for result in results if result.case.ipc == ipc],
            at=lambda result: temperature_of(result.case),
            label=f"Temperature of the label, {images_of_a_class(ipc)}",
            series=lambda result: f"expert of epoch {result.case.epoch}",
            in_order=True,
        )
        for ipc in dict.fromkeys(result.case.ipc for result in results)
    ]


STUDY = Study(
    name="temperature",
    about="labels softened at a temperature, by the epoch of the expert",
    cases=_cases,
    panels=_panels,
    cells={"value": temperature_of},
)
