"""The panels of a study's figure: accuracy by a number, by a name, by images and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation, NullFormatter, NullLocator

from sweeps.report import BLUE, GREY, INK, MARKERS, OTHER_COLOURS, Accuracy, plain
from sweeps.studies.findings import data_bytes, frontier, kept_classes, law_of
from sweeps.studies.run import Finding

_COLOURS = (BLUE, *OTHER_COLOURS)
_ALL_MARKERS = ("o", *MARKERS)
_CURVE_POINTS, _BETWEEN, _MARGIN = 60, 10, 1.15
_ASIDE = 0.07  # of the distance between two names


def lines(
    axes: Axes,
    findings: Sequence[Finding],
    at: Callable[[Finding], float | None],
    label: str,
    *,
    series: Callable[[Finding], str] = lambda finding: images_of_a_class(finding.case.ipc),
    logarithmic: bool = True,
    in_order: bool = False,
) -> None:
    """Accuracy by a number, a line for each number of images, or for each of `series`, of colours `in_order`."""
    places = sorted({float(at(finding) or 0.0) for finding in findings})
    groups = _grouped(findings, series)
    for number, (title, some) in enumerate(groups.items()):
        points = sorted(((float(at(finding) or 0.0), finding.accuracy) for finding in some), key=lambda point: point[0])
        shade = colormaps["cividis"](number / len(groups)) if in_order else None
        _errorbars(axes, number, points, title, "-", colour=shade)
    if logarithmic:
        _logarithmic(axes, places)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel("Test accuracy (%)", color=INK)
    _legend(axes)


def by_name(
    axes: Axes,
    findings: Sequence[Finding],
    at: Callable[[Finding], str],
    *,
    label: str = "",
    series: Callable[[Finding], str] = lambda finding: images_of_a_class(finding.case.ipc),
    measured: Callable[[Finding], Accuracy] = lambda finding: finding.accuracy,
    what: str = "",
    line: str = "",
) -> None:
    """Accuracy by what was done, series beside each other."""
    names = list(dict.fromkeys(at(finding) for finding in findings))
    groups = _grouped(findings, series)
    for number, (title, some) in enumerate(groups.items()):
        aside = _ASIDE * (number - (len(groups) - 1) / 2) if not line else 0.0
        points = [(names.index(at(finding)) + aside, measured(finding)) for finding in some]
        _errorbars(axes, number, points, title, line)
    axes.set_xticks(range(len(names)), [plain(each) for each in names], fontsize=8.5)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel(f"Test accuracy {what}(%)", color=INK)
    _legend(axes)


def _grouped(findings: Sequence[Finding], series: Callable[[Finding], str]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(series(finding), []).append(finding)
    return found


def by_images(axes: Axes, findings: Sequence[Finding]) -> None:
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
    _logarithmic(axes, sorted(set(map(float, sizes))))
    axes.set_xlabel("Images of a class" if law is None else "Images of a class (lines and bands: the fitted law)")
    axes.set_ylabel("Test accuracy (%)", color=INK)
    _legend(axes)


def contours(axes: Axes, findings: Sequence[Finding]) -> None:
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


def envelope(axes: Axes, findings: Sequence[Finding]) -> None:
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


def _errorbars(
    axes: Axes, number: int, points: Sequence[tuple[float, Accuracy]], title: str, line: str, colour: Any = None
) -> None:
    means, deviations = ([getattr(accuracy, name) for _, accuracy in points] for name in ("mean", "std"))
    # A deviation may reach beyond what an accuracy can be.
    below = [min(deviation, mean) for mean, deviation in zip(means, deviations, strict=True)]
    above = [min(deviation, 1 - mean) for mean, deviation in zip(means, deviations, strict=True)]
    axes.errorbar(
        [place for place, _ in points],
        [100 * mean for mean in means],
        100 * np.array([below, above]),
        color=colour or _COLOURS[number % len(_COLOURS)],
        marker=_ALL_MARKERS[number % len(_ALL_MARKERS)],
        linestyle=line or "none",
        markersize=5,
        capsize=2.5,
        linewidth=1.4,
        label=plain(title),
    )


def _logarithmic(axes: Axes, places: Sequence[float]) -> None:
    """Ticks are where something was measured."""
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def images_of_a_class(ipc: int) -> str:
    """So many, in words."""
    return f"{ipc} image{'' if ipc == 1 else 's'} a class"
