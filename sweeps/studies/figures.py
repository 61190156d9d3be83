"""The figure of a study: accuracy by what it varies; for some, a second panel of what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sweeps.report import INK, plain, tidy
from sweeps.studies.cases import STUDIES
from sweeps.studies.panels import by_images, by_name, contours, envelope, images_of_a_class, lines
from sweeps.studies.run import Finding

Panel = Callable[[Axes], None]


def figure(name: str, findings: Sequence[Finding]) -> Figure:
    """Of all findings of a study.

    `scaling` has lines of the fitted law with their bands, and contours over the bytes of images and labels;
    `expert-epoch` the frontier of accuracy and data budget beside the accuracies by epoch; others a panel for each
    thing that accuracy is measured by.
    """
    panels = _PANELS[name](findings)
    canvas = Figure(figsize=(8.0 * len(panels), 4.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    for axes, draw in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        tidy(axes, "both")
    canvas.axes[0].set_title(
        plain(STUDIES[name].about).capitalize(), fontsize=11, fontweight="bold", color=INK, loc="left"
    )
    return canvas


def _expert_epoch(findings: Sequence[Finding]) -> list[Panel]:
    by_epoch = partial(lines, findings=findings, at=lambda finding: finding.case.epoch, label="Epoch of the expert")
    return [by_epoch, partial(envelope, findings=findings)]


def _temperature(findings: Sequence[Finding]) -> list[Panel]:
    return [
        partial(
            lines,
            findings=[finding for finding in findings if finding.case.ipc == ipc],
            at=lambda finding: finding.case.value or 1.0,
            label=f"Temperature of the label, {images_of_a_class(ipc)}",
            series=lambda finding: f"expert of epoch {finding.case.epoch}",
            in_order=True,
        )
        for ipc in dict.fromkeys(finding.case.ipc for finding in findings)
    ]


def _ensemble(findings: Sequence[Finding]) -> list[Panel]:
    return [partial(lines, findings=findings, at=lambda finding: finding.case.members, label="Experts")]


def _swap(findings: Sequence[Finding]) -> list[Panel]:
    return [
        partial(
            by_name,
            findings=[finding for finding in findings if finding.case.edit in ("none", edit)],
            at=lambda finding: "nothing" if finding.case.value is None else f"{finding.case.value:g}",
            label=label,
            line="-",
        )
        for edit, label in (
            ("swapped", "Rank exchanged with the last"),
            ("swapped-top", "How many top ranks are exchanged with the last ones"),
        )
    ]


def _entropy(findings: Sequence[Finding]) -> list[Panel]:
    panel = partial(lines, findings=findings, logarithmic=False)
    return [
        partial(panel, at=lambda finding: finding.entropy, label="Mean entropy of the labels (nats)"),
        partial(
            panel,
            at=lambda finding: 100 * (finding.expert_accuracy or 0.0),
            label="Accuracy of the expert on the validation images (%)",
        ),
    ]


def _zero_shot(findings: Sequence[Finding]) -> list[Panel]:
    panel = partial(
        by_name,
        findings=findings,
        at=_edit,
        series=lambda finding: f"{images_of_a_class(finding.case.ipc)}, class {finding.case.removed}",
    )
    of_class = partial(panel, measured=lambda finding: finding.class_accuracy or finding.accuracy)
    return [partial(of_class, what="of the removed class "), partial(panel, what="of all classes ")]


def _scaling(findings: Sequence[Finding]) -> list[Panel]:
    return [partial(by_images, findings=findings), partial(contours, findings=findings)]


def _hard(findings: Sequence[Finding]) -> list[Panel]:
    return [partial(by_name, findings=findings, at=_edit)]


def _edit(finding: Finding) -> str:
    case = finding.case
    return case.edit_name + ("" if case.value is None else f" {case.value:g}")


_PANELS: dict[str, Callable[[Sequence[Finding]], list[Panel]]] = {
    "expert-epoch": _expert_epoch,
    "temperature": _temperature,
    "ensemble": _ensemble,
    "swap": _swap,
    "entropy": _entropy,
    "zero-shot": _zero_shot,
    "scaling": _scaling,
    "hard": _hard,
}
