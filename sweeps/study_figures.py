"""The figure of a study: accuracy by what it varies; for some, a second panel of what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, NullFormatter, ScalarFormatter

from sweeps.palette import BLUE, GREY, INK, MARKERS, OTHER_COLOURS, plain, tidy
from sweeps.result import Accuracy
from sweeps.study import Finding
from sweeps.study_cases import STUDIES
from sweeps.study_frontier import data_bytes, frontier, kept_classes, law_of

_COLOURS = (BLUE, *OTHER_COLOURS)
_ALL_MARKERS = ("o", *MARKERS)
_CURVE_POINTS, _BETWEEN, _MARGIN = 60, 10, 1.15


def figure(name: str, findings: Sequence[Finding]) -> Figure:
    """Of all findings of a study.

    `scaling` has lines of the fitted law with their bands, and contours over the bytes of images and labels;
    `expert-epoch` the frontier of accuracy and data budget beside the accuracies by epoch.
    """
    panels = {"scaling": (_by_images, _contours), "expert-epoch": (_lines, _frontier)}.get(name, (_lines,))
    canvas = Figure(figsize=(8.0 * len(panels), 4.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    for axes, draw in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, name, findings)
        tidy(axes, "both")
    canvas.axes[0].set_title(
        plain(STUDIES[name].about).capitalize(), fontsize=11, fontweight="bold", color=INK, loc="left"
    )
    return canvas


def _lines(axes: Axes, name: str, findings: Sequence[Finding]) -> None:
    """Accuracy by what the study varies, a line for each number of images (and kind of change)."""
    at, label = _AXES[name]
    values = [at(finding) for finding in findings]
    names = [value for value in dict.fromkeys(values) if isinstance(value, str)]
    series: dict[str, list[tuple[float, Accuracy]]] = {}
    for finding, value in zip(findings, values, strict=True):
        place = float(names.index(value)) if isinstance(value, str) else float(value)
        measured = finding.class_accuracy if name == "zero-shot" else finding.accuracy
        assert measured is not None, "zero-shot measures the class that it removes"
        series.setdefault(_series(name, finding), []).append((place, measured))
    for number, (title, points) in enumerate(series.items()):
        _errorbars(axes, number, sorted(points, key=lambda point: point[0]), title, "" if names else "-")
    if names:
        axes.set_xticks(range(len(names)), [plain(each) for each in names], fontsize=8.5)
    elif name != "entropy" and min(value for value in values if not isinstance(value, str)) > 0:
        _logarithmic(axes)
    axes.set_xlabel(label, color=INK)
    what = "of the removed class " if name == "zero-shot" else ""
    axes.set_ylabel(f"Test accuracy {what}(%)", color=INK)
    _legend(axes)


def _by_images(axes: Axes, name: str, findings: Sequence[Finding]) -> None:
    """Accuracy by the images of a class, a line for each number of classes kept, as measured and by the law."""
    law, series = law_of(findings), dict[int, list[Finding]]()
    for finding in findings:
        series.setdefault(kept_classes(finding), []).append(finding)
    most = max(series)
    sizes = [finding.case.ipc for finding in findings]
    curve = np.geomspace(min(sizes), max(sizes), _CURVE_POINTS)
    for number, (k, some) in enumerate(sorted(series.items())):
        title = "hard labels" if k == 0 else "all classes" if k == most else f"{k} class{'es' if k > 1 else ''} kept"
        points = [(float(each.case.ipc), each.accuracy) for each in some]
        _errorbars(axes, number, sorted(points, key=lambda point: point[0]), title, "-" if law is None else "")
        if law is not None and k != 1:  # the law has argmax labels where it has hard ones
            found = [law.accuracy(ipc, k) for ipc in curve]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(curve, [100 * each.value for each in found], color=colour, linewidth=1.4)
            axes.fill_between(
                curve, [100 * each.low for each in found], [100 * each.high for each in found],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
    _logarithmic(axes)
    axes.set_xlabel("Images of a class" if law is None else "Images of a class (lines and bands: the fitted law)")
    axes.set_ylabel("Test accuracy (%)", color=INK)
    _legend(axes)


def _contours(axes: Axes, name: str, findings: Sequence[Finding]) -> None:
    """Where accuracy is equal, over bytes of images and labels: measured, and by the law."""
    law = law_of(findings)
    grid = {(finding.case.ipc, kept_classes(finding)): finding for finding in findings}
    sizes, kept = sorted({ipc for ipc, _ in grid}), sorted({k for _, k in grid})
    axes.set_xlabel("Image bytes on disk", color=INK)
    axes.set_ylabel("Label bytes on disk", color=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    rows = [[grid[ipc, k] for k in kept] for ipc in sizes]
    across = np.array([[each.image_bytes for each in row] for row in rows], dtype=float)
    up = np.array([[each.label_bytes for each in row] for row in rows], dtype=float)
    measured = np.array([[100 * each.accuracy.mean for each in row] for row in rows])
    points = axes.scatter(across, up, c=measured, cmap="cividis", s=42, zorder=3, edgecolors="white", linewidths=0.6)
    bar = axes.figure.colorbar(points, ax=axes)
    bar.set_label("Test accuracy (%)", color=INK)
    if min(measured.shape) < 2 or measured.max() <= measured.min():
        return
    axes.set_xlim(across.min() / _MARGIN, across.max() * _MARGIN)
    axes.set_ylim(up.min() / _MARGIN, up.max() * _MARGIN)
    for axis, values in ((axes.xaxis, across), (axes.yaxis, up)):
        if values.max() > 10 * values.min():
            axis.set_minor_formatter(NullFormatter())
    levels = np.linspace(measured.min(), measured.max(), 8)[1:-1]
    axes.contour(across, up, measured, levels=levels, colors=GREY, linewidths=0.9, linestyles="dashed")
    if law is not None:
        images, classes = np.meshgrid(np.log(sizes), np.log(np.maximum(kept, 1)), indexing="ij")
        at = [np.exp(_finer(grid)) for grid in (np.log(across), np.log(up), images, classes)]
        lines = axes.contour(*at[:2], 100 * law.accuracies(*at[2:]), levels=levels, colors=BLUE, linewidths=1.3)
        axes.clabel(lines, fmt="%.0f %%", fontsize=8)
        axes.set_title("Equal accuracy: the law (blue), measured (dashed)", fontsize=9.5, color=INK, loc="right")


def _finer(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A grid [I, J] with nine values more between each two neighbours, on straight lines."""
    for _ in range(2):
        known = np.arange(len(grid))
        between = np.linspace(0, len(grid) - 1, _BETWEEN * (len(grid) - 1) + 1)
        grid = np.stack([np.interp(between, known, column) for column in grid.T])  # transposed, twice
    return grid


def _frontier(axes: Axes, name: str, findings: Sequence[Finding]) -> None:
    """Accuracy by the bytes of images and labels together: all cases, and the envelope that validation chose."""
    axes.scatter(
        [data_bytes(finding) for finding in findings], [100 * finding.accuracy.mean for finding in findings],
        color=GREY, s=16, alpha=0.6, label="every epoch",
    )  # fmt: skip
    best = frontier(findings)
    _errorbars(axes, 0, [(float(data_bytes(each)), each.accuracy) for each in best], "chosen by validation", "-")
    for finding in best:
        axes.annotate(
            f" epoch {finding.case.epoch}", (data_bytes(finding), 100 * finding.accuracy.mean), fontsize=8,
            color=INK, xytext=(2, -11), textcoords="offset points",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatterSciNotation())
    axes.set_xlabel("Bytes of images and labels on disk", color=INK)
    axes.set_ylabel("Test accuracy (%)", color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")


def _errorbars(axes: Axes, number: int, points: Sequence[tuple[float, Accuracy]], title: str, line: str) -> None:
    axes.errorbar(
        [place for place, _ in points],
        [100 * accuracy.mean for _, accuracy in points],
        [100 * accuracy.std for _, accuracy in points],
        color=_COLOURS[number % len(_COLOURS)],
        marker=_ALL_MARKERS[number % len(_ALL_MARKERS)],
        linestyle=line or "none",
        markersize=5,
        capsize=2.5,
        linewidth=1.4,
        label=plain(title),
    )


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _series(name: str, finding: Finding) -> str:
    case = finding.case
    images = f"{case.ipc} image{'' if case.ipc == 1 else 's'} a class"
    if name == "temperature":
        return f"{images}, epoch {case.epoch}"
    if name == "swap":
        return f"{images}, {'a rank' if case.edit != 'swapped-top' else 'the top'}"
    return f"{images}, class {case.removed}" if name == "zero-shot" else images


def _edit(finding: Finding) -> str:
    case = finding.case
    return {"none": "soft"}.get(case.edit, case.edit) + ("" if case.value is None else f" {case.value:g}")


_AXES: dict[str, tuple[Callable[[Finding], float | str], str]] = {
    "expert-epoch": (lambda finding: finding.case.epoch or 0, "Epoch of the expert"),
    "temperature": (lambda finding: finding.case.value or 1.0, "Temperature of the label"),
    "ensemble": (lambda finding: finding.case.members, "Experts"),
    "swap": (lambda finding: finding.case.value or 0, "Rank exchanged with the last (0: none)"),
    "entropy": (lambda finding: finding.entropy, "Mean entropy of the labels (nats)"),
    "zero-shot": (_edit, ""),
    "hard": (_edit, ""),
}
