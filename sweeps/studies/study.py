"""What a study is: a question, the cases that answer it, and how their results are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from matplotlib.axes import Axes

from lpqld.errors import ConfigError
from sweeps.config import StudyConfig
from sweeps.studies.case import Case
from sweeps.studies.results import CaseResult

Panel = Callable[[Axes], None]
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class StudyInputs:
    """What a study chooses its cases from.

    Attributes:
        config: of the study.
        epochs: those that experts were kept at, in ascending order.
        num_experts: how many experts there are.
        num_classes: C.
    """

    config: StudyConfig
    epochs: Sequence[int]
    num_experts: int
    num_classes: int

    def expert_epoch(self) -> int:
        """The epoch of the experts, where the study does not vary it.

        Raises:
            ConfigError: no expert was kept at the configured epoch.
        """
        epoch = self.config.epoch
        if epoch is None:
            return self.epochs[-1]
        if epoch not in self.epochs:
            there_are = ", ".join(map(str, self.epochs))
            raise ConfigError(f"epoch {epoch}: no expert was kept then; there are {there_are}")
        return epoch


class Finding(Protocol):
    """What follows from all results of a study together, such as a fitted law."""

    def to_json(self, results: Sequence[CaseResult]) -> dict[str, Any]:
        """What it adds to the study's document, JSON values by name; empty where nothing follows."""

    def lines(self, results: Sequence[CaseResult]) -> list[str]:
        """What it adds to the study's report: lines of Markdown."""


@dataclass(frozen=True)
class Study:
    """A question about soft labels.

    Attributes:
        name: on the command line, in MLflow and in paths.
        about: what it asks, in a line for help and reports.
        cases: chooses the cases; raises ConfigError where a setting does not fit the inputs.
        panels: draws the results, a panel from left to right each.
        cells: of a column of the table, where this study shows another value than `Case.shown`.
        finding: what follows from all results together, if anything does.
    """

    name: str
    about: str
    cases: Callable[[StudyInputs], list[Case]]
    panels: Callable[[Sequence[CaseResult]], list[Panel]]
    cells: Mapping[str, Callable[[Case], object]] = field(default_factory=dict)
    finding: Finding | None = None

    def cell(self, case: Case, column: str) -> object:
        """What the table shows of a case in a column; None for an empty cell."""
        return self.cells[column](case) if column in self.cells else case.shown(column)


def steps(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 ... below `most`, and `most`."""
    below = {step * 10**power for power in range(9) for step in _STEPS if step * 10**power < most}
    return sorted(below | {most})
