"""Student accuracy by the epoch of the expert, and the frontier of accuracy and data budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation

from sweeps.report import GREY, INK, front
from sweeps.studies.case import Case
from sweeps.studies.panels import TEST_ACCURACY, errorbars, lines
from sweeps.studies.percent import spread
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs


def every_epoch(inputs: StudyInputs) -> list[Case]:
    """Labels of the experts at each of their epochs, as they are."""
    return [Case(ipc, epoch) for ipc in inputs.config.ipc for epoch in inputs.epochs]


def frontier(results: Sequence[CaseResult]) -> list[CaseResult]:
    """The envelope over all that a study varies: what nothing else beats in bytes of data and on validation."""
    beaten_by_none = front([result.data_bytes for result in results], [result.val_accuracy.mean for result in results])
    chosen = [result for result, stays in zip(results, beaten_by_none, strict=True) if stays]
    # Of equals the first, as where validation chooses one.
    return sorted({each.data_bytes: each for each in reversed(chosen)}.values(), key=lambda each: each.data_bytes)


class Frontier:
    """The finding of this study: `frontier`, chosen by the validation images."""

    def to_json(self, results: Sequence[CaseResult]) -> dict[str, Any]:
        """Its cases, from the fewest bytes up."""
        keys = ("case", "label_bytes", "image_bytes", "accuracy", "val_accuracy")
        return {"frontier": [{key: result.to_json()[key] for key in keys} for result in frontier(results)]}

    def lines(self, results: Sequence[CaseResult]) -> list[str]:
        """A list of its cases."""
        return [
            "The frontier, accuracy by bytes of images and labels, chosen by the validation images:",
            "",
            *(
                f"- {result.data_bytes:,} bytes: {result.case}, test {spread(result.accuracy)} %"
                for result in frontier(results)
            ),
        ]


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    by_epoch = partial(lines, results=results, at=lambda result: result.case.epoch, label="Epoch of the expert")
    return [by_epoch, partial(_envelope, results=results)]


def _envelope(axes: Axes, results: Sequence[CaseResult]) -> None:
    """Accuracy by the bytes of images and labels together: all cases, and the envelope that validation chose."""
    axes.scatter(
        [result.data_bytes for result in results], [100 * result.accuracy.mean for result in results],
        color=GREY, s=16, alpha=0.6, label="every epoch",
    )  # fmt: skip
    best = frontier(results)
    errorbars(axes, 0, [(float(each.data_bytes), each.accuracy) for each in best], "chosen by validation", "-")
    for result in best:
        axes.annotate(
            f" epoch {result.case.epoch}", (result.data_bytes, 100 * result.accuracy.mean), fontsize=8,
            color=INK, xytext=(2, -11), textcoords="offset points",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatterSciNotation())
    axes.set_xlabel("Bytes of images and labels on disk", color=INK)
    axes.set_ylabel(TEST_ACCURACY, color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")


STUDY = Study(
    name="expert-epoch",
    about="student accuracy by the epoch of the expert, for each number of images",
    cases=every_epoch,
    panels=_panels,
    finding=Frontier(),
)
