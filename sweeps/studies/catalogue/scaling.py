"""Images of a class and classes kept in a label: how many images a label is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lpqld.errors import ConfigError
from sweeps.studies.case import Case
from sweeps.studies.edits import Hard
from sweeps.studies.grid import KeptClasses, exchange, law_of
from sweeps.studies.grid_panels import by_images, contours
from sweeps.studies.results import CaseResult
from sweeps.studies.scaling_law import FORMULA, ScalingLaw
from sweeps.studies.study import Panel, Study, StudyInputs, steps

_LARGE = 1000


class Law:
    """The finding of this study: the scaling law of its grid, and the exchange rate of labels and images."""

    def to_json(self, results: Sequence[CaseResult]) -> dict[str, Any]:
        """The law with its exchange rates; empty where the grid is too small."""
        law = law_of(results)
        return {} if law is None else {"law": {**law.to_json(), "exchange": exchange(law, results)}}

    def lines(self, results: Sequence[CaseResult]) -> list[str]:
        """Coefficients and a table of exchange rates, or why there is no law."""
        law = law_of(results)
        if law is None:
            return [
                "No scaling law: it takes two numbers of images, two of classes kept (hard labels are one), and more"
                " than four cases that differ in them."
            ]
        return [*_coefficients(law), "", *_exchange_rates(law, results)]


def _coefficients(law: ScalingLaw) -> list[str]:
    coefficients = law.to_json()["coefficients"].items()
    values = ", ".join(
        f"{name} = {each['value']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for name, each in coefficients
    )
    return [
        f"The scaling law, fitted to the test accuracies: {FORMULA}.",
        f"{values} (95 % confidence); it misses {100 * law.rms:.1f} points (root mean square).",
    ]


def _exchange_rates(law: ScalingLaw, results: Sequence[CaseResult]) -> list[str]:
    lines = [
        "| images of a class | classes kept | worth, hard-labelled images | image bytes a label byte replaces |",
        "|---:|---:|---:|---:|",
    ]
    for row in exchange(law, results):
        beyond = ", more than were measured" if row["beyond"] else ""
        bytes_replaced = _estimate(row["image_bytes_a_label_byte"])
        lines.append(f"| {row['ipc']} | {row['k']} | {_estimate(row['worth'])}{beyond} | {bytes_replaced} |")
    return lines


def _estimate(estimate: Mapping[str, float | None]) -> str:
    """A value with its band; a number too large to mean more is said to be so."""
    if estimate["value"] is None:
        return "not to be told: more hard labels do not help"
    value, low, high = (
        f"over {_LARGE:,}" if each is None or each > _LARGE else f"{each:.2f}"
        for each in (estimate["value"], estimate["low"], estimate["high"])
    )
    return f"{value} [{low}, {high}]"


def _cases(inputs: StudyInputs) -> list[Case]:
    epoch, num_classes, kept = inputs.expert_epoch(), inputs.num_classes, inputs.config.k
    if bad := [k for k in kept or () if k > num_classes]:
        raise ConfigError(f"k {bad[0]}: there are {num_classes} classes")
    return [
        _case(ipc, epoch, k, num_classes)
        for ipc in inputs.config.ipc
        for k in (kept if kept is not None else [0, *steps(num_classes)])
    ]


def _case(ipc: int, epoch: int, k: int, num_classes: int) -> Case:
    if k == 0:
        return Case(ipc, edit=Hard())
    return Case(ipc, epoch) if k == num_classes else Case(ipc, epoch, edit=KeptClasses(k))


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    """Lines of the fitted law with their bands; contours over the bytes of images and labels."""
    return [partial(by_images, results=results), partial(contours, results=results)]


STUDY = Study(
    name="scaling",
    about="images of a class and classes kept in a label: how many images a label is worth",
    cases=_cases,
    panels=_panels,
    finding=Law(),
)
