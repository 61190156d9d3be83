"""The panels of a grid of images and classes kept: accuracy by images, and where it is equal over bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from sweeps.report import BLUE, GREY, INK
from sweeps.studies.grid import kept_classes, law_of
from sweeps.studies.panels import TEST_ACCURACY, colour_of, errorbars, legend, logarithmic_axis
from sweeps.studies.results import CaseResult
from sweeps.studies.scaling_law import ScalingLaw

Values = npt.NDArray[np.float64]
_CURVE_POINTS = 60
_BETWEEN = 10  # points of a curve between two of a grid
_MARGIN = 1.15


def by_images(axes: Axes, results: Sequence[CaseResult]) -> None:
    """Accuracy by the images of a class, a line for each number of classes kept, as measured and by the law."""
    law = law_of(results)
    series: dict[int, list[CaseResult]] = {}
    for result in results:
        series.setdefault(kept_classes(result), []).append(result)
    sizes = [result.case.ipc for result in results]
    curve = np.geomspace(min(sizes), max(sizes), _CURVE_POINTS)
    for number, (k, members) in enumerate(sorted(series.items())):
        points = sorted(((float(each.case.ipc), each.accuracy) for each in members), key=lambda point: point[0])
        errorbars(axes, number, points, _title(k, max(series)), "-" if law is None else "")
        if law is not None and k != 1:  # the law has argmax labels where it has hard ones
            _law_with_band(axes, law, k, curve, colour_of(number))
    logarithmic_axis(axes, sorted(set(map(float, sizes))))
    axes.set_xlabel("Images of a class" if law is None else "Images of a class (lines and bands: the fitted law)")
    axes.set_ylabel(TEST_ACCURACY, color=INK)
    legend(axes)


def _title(k: int, most: int) -> str:
    if k == 0:
        return "hard labels"
    return "all classes" if k == most else f"{k} class{'es' if k > 1 else ''} kept"


def _law_with_band(axes: Axes, law: ScalingLaw, k: int, curve: Values, colour: str) -> None:
    estimates = [law.accuracy(ipc, k) for ipc in curve]
    axes.plot(curve, [100 * each.value for each in estimates], color=colour, linewidth=1.4)
    axes.fill_between(
        curve, [100 * each.low for each in estimates], [100 * each.high for each in estimates],
        color=colour, alpha=0.15, linewidth=0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Grid:
    """Results by I numbers of images and K numbers of classes kept, both in ascending order.

    Attributes:
        ipc: the numbers of images, [I].
        kept: the numbers of classes kept, [K].
        image_bytes, label_bytes: on disk, [I, K].
        percent: test accuracy, [I, K].
    """

    ipc: list[int]
    kept: list[int]
    image_bytes: Values
    label_bytes: Values
    percent: Values

    @classmethod
    def of(cls, results: Sequence[CaseResult]) -> _Grid:
        """Of results that hold every pair."""
        by_pair = {(result.case.ipc, kept_classes(result)): result for result in results}
        ipc = sorted({size for size, _ in by_pair})
        kept = sorted({k for _, k in by_pair})
        rows = [[by_pair[size, k] for k in kept] for size in ipc]
        return cls(
            ipc,
            kept,
            np.array([[each.image_bytes for each in row] for row in rows], dtype=float),
            np.array([[each.label_bytes for each in row] for row in rows], dtype=float),
            np.array([[100 * each.accuracy.mean for each in row] for row in rows]),
        )


def contours(axes: Axes, results: Sequence[CaseResult]) -> None:
    """Where accuracy is equal, over bytes of images and labels: measured, and by the law."""
    grid = _Grid.of(results)
    axes.set_xlabel("Image bytes on disk", color=INK)
    axes.set_ylabel("Label bytes on disk", color=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    points = axes.scatter(
        grid.image_bytes, grid.label_bytes, c=grid.percent,
        cmap="cividis", s=42, zorder=3, edgecolors="white", linewidths=0.6,
    )  # fmt: skip
    bar = axes.figure.colorbar(points, ax=axes)
    bar.set_label(TEST_ACCURACY, color=INK)
    if min(grid.percent.shape) >= 2 and grid.percent.max() > grid.percent.min():
        _limits(axes, grid)
        _lines_of_equal_accuracy(axes, grid, law_of(results))


def _limits(axes: Axes, grid: _Grid) -> None:
    across, up = grid.image_bytes, grid.label_bytes
    axes.set_xlim(across.min() / _MARGIN, across.max() * _MARGIN)
    axes.set_ylim(up.min() / _MARGIN, up.max() * _MARGIN)
    for axis, values in ((axes.xaxis, across), (axes.yaxis, up)):
        if values.max() > 10 * values.min():
            axis.set_minor_formatter(NullFormatter())


def _lines_of_equal_accuracy(axes: Axes, grid: _Grid, law: ScalingLaw | None) -> None:
    across, up = grid.image_bytes, grid.label_bytes
    levels = np.linspace(grid.percent.min(), grid.percent.max(), 8)[1:-1]
    axes.contour(across, up, grid.percent, levels=levels, colors=GREY, linewidths=0.9, linestyles="dashed")
    if law is None:
        return
    images, classes = np.meshgrid(np.log(grid.ipc), np.log(np.maximum(grid.kept, 1)), indexing="ij")
    at = [np.exp(_finer(values)) for values in (np.log(across), np.log(up), images, classes)]
    lines = axes.contour(*at[:2], 100 * law.accuracies(*at[2:]), levels=levels, colors=BLUE, linewidths=1.3)
    axes.clabel(lines, fmt="%.0f %%", fontsize=8)
    axes.set_title("Equal accuracy: the law (blue), measured (dashed)", fontsize=9.5, color=INK, loc="right")


def _finer(grid: Values) -> Values:
    """A grid [I, J] with nine values more between each two neighbours, on straight lines."""
    for _ in range(2):
        known = np.arange(len(grid))
        between = np.linspace(0, len(grid) - 1, _BETWEEN * (len(grid) - 1) + 1)
        grid = np.stack([np.interp(between, known, column) for column in grid.T])  # transposed, twice
    return grid
