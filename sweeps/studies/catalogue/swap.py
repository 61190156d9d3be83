"""A rank of the label exchanged with its last, and the top ranks with the last ones."""

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
from sweeps.studies.edits import Edit, Soft
from sweeps.studies.panels import by_name
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs, steps

Logits = NDArray[np.floating]


@dataclass(frozen=True)
class Swapped(Edit):
    """The value of the `rank`-th largest entry of each label exchanged with that of its smallest."""

    name: ClassVar[str] = "swapped"
    rank: int

    @property
    def value(self) -> int:
        """The rank, from 1."""
        return self.rank

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels after `swapped`."""
        return labels.with_logits(swapped(labels.logits, self.rank))


@dataclass(frozen=True)
class SwappedTop(Edit):
    """The `count` largest entries of each label exchanged with the smallest."""

    name: ClassVar[str] = "swapped-top"
    count: int

    @property
    def value(self) -> int:
        """How many are exchanged."""
        return self.count

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels after `swapped_top`."""
        return labels.with_logits(swapped_top(labels.logits, self.count))


def swapped(logits: Logits, rank: int) -> Logits:
    """The value of the `rank`-th largest entry of each label exchanged with that of its smallest.

    Args:
        logits: [N, C].
        rank: 1 (the largest) to C - 1.

    Raises:
        ConfigError: there is no such rank.
    """
    _check_rank(rank, logits.shape[1] - 1)
    return _exchanged(logits, [rank - 1], [logits.shape[1] - 1])


def swapped_top(logits: Logits, count: int) -> Logits:
    """The `count` largest entries of each label exchanged with the smallest: the first with the last, and so on.

    Args:
        logits: [N, C].
        count: 1 to C // 2.

    Raises:
        ConfigError: there are not so many.
    """
    _check_rank(count, logits.shape[1] // 2)
    return _exchanged(logits, range(count), range(logits.shape[1] - 1, logits.shape[1] - 1 - count, -1))


def _check_rank(rank: int, most: int) -> None:
    if not 1 <= rank <= most:
        raise ConfigError(f"labels can be swapped at ranks 1 to {most} here, found {rank}")


def _exchanged(logits: Logits, places: range | list[int], others: range | list[int]) -> Logits:
    """Values at some places of the descending order exchanged with those at others; ties go by class."""
    order = np.argsort(-logits, axis=1, kind="stable")
    one = order[:, list(places)]
    other = order[:, list(others)]
    rows = np.arange(len(logits))[:, None]
    exchanged = logits.copy()
    exchanged[rows, one] = logits[rows, other]
    exchanged[rows, other] = logits[rows, one]
    return exchanged


def _cases(inputs: StudyInputs) -> list[Case]:
    epoch, num_classes, ranks = inputs.expert_epoch(), inputs.num_classes, inputs.config.ranks
    if bad := [rank for rank in ranks or () if rank >= num_classes]:
        raise ConfigError(f"ranks: {bad[0]} of {num_classes} classes cannot be exchanged with the last")
    half = num_classes // 2
    edits: list[Edit] = [Soft()]
    edits += [Swapped(rank) for rank in ranks or steps(num_classes - 1)]
    edits += [SwappedTop(count) for count in ranks or steps(half) if count <= half]
    return [Case(ipc, epoch, edit=edit) for ipc in inputs.config.ipc for edit in edits]


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    return [
        partial(
            by_name,
            results=[result for result in results if isinstance(result.case.edit, (Soft, edit))],
            at=lambda result: "nothing" if result.case.edit.value is None else f"{result.case.edit.value:g}",
            label=label,
            line="-",
        )
        for edit, label in (
            (Swapped, "Rank exchanged with the last"),
            (SwappedTop, "How many top ranks are exchanged with the last ones"),
        )
    ]


STUDY = Study(
    name="swap",
    about="a rank of the label exchanged with its last, and the top ranks with the last ones",
    cases=_cases,
    panels=_panels,
)
