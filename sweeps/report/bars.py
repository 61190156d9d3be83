"""The figure of what one change at a time does to accuracy: bars in groups, beside a base."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sweeps.report.palette import BLUE, GREY, INK, OTHER_COLOURS, plain, tidy
from sweeps.report.result import Accuracy

_BAR_INCHES, _GAP = 0.21, 0.9
_ABOVE, _WITHIN, _BELOW = BLUE, GREY, OTHER_COLOURS[0]


def bar_figure(title: str, base: Accuracy, groups: Mapping[str, Mapping[str, Accuracy]]) -> Figure:
    """Accuracies in percent with deviation bars, group under group, the base as a line and a band down the figure.

    What is above the base by more than both deviations together is blue, what is as far below it orange, the rest grey.

    Args:
        title: of the figure.
        base: what each bar differs from in one thing.
        groups: bars by what is changed, then by what it is changed to.
    """
    num_bars = sum(len(bars) for bars in groups.values())
    height = _BAR_INCHES * (num_bars + _GAP * len(groups)) + 1.3
    canvas = Figure(figsize=(8.0, height), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    middle = 100 * base.mean
    spread = 100 * base.std
    axes.axvspan(middle - spread, middle + spread, color=BLUE, alpha=0.12, linewidth=0)
    line = axes.axvline(middle, color=BLUE, linewidth=1.4, label=f"base, {middle:.1f} ± {spread:.1f}")
    place = _draw_groups(axes, groups, middle, spread)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place, -0.6)
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    axes.set_xlabel("Test accuracy (%)", color=INK)
    canvas.legend(handles=[line, *_meanings()], loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    tidy(axes, "x")
    axes.set_title(plain(title), fontsize=11.5, fontweight="bold", color=INK, loc="left")
    return canvas


def _draw_groups(axes: Axes, groups: Mapping[str, Mapping[str, Accuracy]], middle: float, spread: float) -> float:
    """Bars under their group's name, from 0 down, against a base in percent; where the next bar would be."""
    positions, names = [], []
    place = 0.0
    for group, bars in groups.items():
        axes.text(0.0, place, f"{plain(group)}  ", transform=axes.get_yaxis_transform(), ha="right", va="center",
                  fontsize=9, fontweight="bold", color=INK)  # fmt: skip
        place += _GAP
        for name, accuracy in bars.items():
            mean = 100 * accuracy.mean
            std = 100 * accuracy.std
            distance = mean - middle
            clear = abs(distance) > std + spread
            colour = _WITHIN if not clear else _ABOVE if distance > 0 else _BELOW
            axes.barh(place, mean, height=0.68, color=colour, xerr=std, error_kw={"elinewidth": 1.1, "capsize": 2.5})
            axes.text(mean + std, place, f"  {mean:.1f}", va="center", fontsize=8, color=INK)
            positions.append(place)
            names.append(plain(name))
            place += 1
    axes.set_yticks(positions, names, fontsize=8.5)
    return place


def _meanings() -> list[Patch]:
    """What the colours of bars say, for the legend."""
    return [
        Patch(color=_ABOVE, label="above it by more than both deviations"),
        Patch(color=_WITHIN, label="within them"),
        Patch(color=_BELOW, label="below by more"),
    ]
