"""Panels of a study's figure: accuracy by a number or by a name, and the parts that other panels are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from sweeps.report import BLUE, INK, MARKERS, OTHER_COLOURS, Accuracy, plain
from sweeps.studies.results import CaseResult

TEST_ACCURACY = "Test accuracy (%)"
_COLOURS = (BLUE, *OTHER_COLOURS)
_ALL_MARKERS = ("o", *MARKERS)
_ASIDE = 0.07  # of the distance between two names


def lines(
    axes: Axes,
    results: Sequence[CaseResult],
    at: Callable[[CaseResult], float | None],
    label: str,
    *,
    series: Callable[[CaseResult], str] = lambda result: images_of_a_class(result.case.ipc),
    logarithmic: bool = True,
    in_order: bool = False,
) -> None:
    """Accuracy by a number, a line for each number of images, or for each of `series`, of colours `in_order`."""
    places = sorted({float(at(result) or 0.0) for result in results})
    groups = _grouped(results, series)
    for number, (title, members) in enumerate(groups.items()):
        points = sorted(((float(at(result) or 0.0), result.accuracy) for result in members), key=lambda point: point[0])
        shade = colormaps["cividis"](number / len(groups)) if in_order else None
        errorbars(axes, number, points, title, "-", colour=shade)
    if logarithmic:
        logarithmic_axis(axes, places)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel(TEST_ACCURACY, color=INK)
    legend(axes)


def by_name(
    axes: Axes,
    results: Sequence[CaseResult],
    at: Callable[[CaseResult], str],
    *,
    label: str = "",
    series: Callable[[CaseResult], str] = lambda result: images_of_a_class(result.case.ipc),
    measured: Callable[[CaseResult], Accuracy] = lambda result: result.accuracy,
    what: str = "",
    line: str = "",
) -> None:
    """Accuracy by what was done, series beside each other."""
    names = list(dict.fromkeys(at(result) for result in results))
    groups = _grouped(results, series)
    for number, (title, members) in enumerate(groups.items()):
        aside = _ASIDE * (number - (len(groups) - 1) / 2) if not line else 0.0
        points = [(names.index(at(result)) + aside, measured(result)) for result in members]
        errorbars(axes, number, points, title, line)
    axes.set_xticks(range(len(names)), [plain(each) for each in names], fontsize=8.5)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel(f"Test accuracy {what}(%)", color=INK)
    legend(axes)


def _grouped(results: Sequence[CaseResult], series: Callable[[CaseResult], str]) -> dict[str, list[CaseResult]]:
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(series(result), []).append(result)
    return groups


def errorbars(
    axes: Axes, number: int, points: Sequence[tuple[float, Accuracy]], title: str, line: str, colour: Any = None
) -> None:
    """Means with their deviations at places of the axis, in the colour and with the marker of that number."""
    means = [accuracy.mean for _, accuracy in points]
    deviations = [accuracy.std for _, accuracy in points]
    # A deviation may reach beyond what an accuracy can be.
    below = [min(deviation, mean) for mean, deviation in zip(means, deviations, strict=True)]
    above = [min(deviation, 1 - mean) for mean, deviation in zip(means, deviations, strict=True)]
    axes.errorbar(
        [place for place, _ in points],
        [100 * mean for mean in means],
        100 * np.array([below, above]),
        color=colour or colour_of(number),
        marker=_ALL_MARKERS[number % len(_ALL_MARKERS)],
        linestyle=line or "none",
        markersize=5,
        capsize=2.5,
        linewidth=1.4,
        label=plain(title),
    )


def colour_of(number: int) -> str:
    """The colour of a series; they come round."""
    return _COLOURS[number % len(_COLOURS)]


def logarithmic_axis(axes: Axes, places: Sequence[float]) -> None:
    """Ticks are where something was measured."""
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())


def legend(axes: Axes) -> None:
    """To the right of the panel."""
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def images_of_a_class(ipc: int) -> str:
    """So many, in words."""
    return f"{ipc} image{'' if ipc == 1 else 's'} a class"
