"""The labels' entropy and the expert's accuracy beside the student's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sweeps.studies.catalogue.expert_epoch import every_epoch
from sweeps.studies.panels import lines
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    panel = partial(lines, results=results, logarithmic=False)
    return [
        partial(panel, at=lambda result: result.entropy, label="Mean entropy of the labels (nats)"),
        partial(
            panel,
            at=lambda result: 100 * (result.expert_accuracy or 0.0),
            label="Accuracy of the expert on the validation images (%)",
        ),
    ]


STUDY = Study(
    name="entropy",
    about="the labels' entropy and the expert's accuracy beside the student's",
    cases=every_epoch,
    panels=_panels,
)
