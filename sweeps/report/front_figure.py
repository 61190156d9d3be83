"""The figures of a sweep: accuracy against label bytes, for paper and for a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lpqld.byte_sizes import format_bytes
from sweeps.report.palette import BLUE, GREY, INK, MARKERS, OTHER_COLOURS, plain, tidy
from sweeps.report.result import Point, SweepResult

_PLOTLY_SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")


def figure(result: SweepResult) -> Figure:
    """Test accuracy against label bytes: points with deviation bars, the front, the baselines, the teacher.

    The upper axis says how many times smaller than all labels a size is. A baseline without label bytes (hard labels)
    has no place on a logarithmic axis and is drawn as a line across.
    """
    canvas = Figure(figsize=(8.0, 5.0), dpi=160, facecolor="white")
    FigureCanvasAgg(canvas)
    axes = canvas.add_axes((0.085, 0.125, 0.625, 0.71))
    axes.set_xscale("log")
    low, high = _byte_limits(result)
    axes.set_xlim(low, high)
    tidy(axes, "both")

    _draw_points(axes, result.points)
    _draw_baselines(axes, result.baselines)
    teacher = result.teacher.get("accuracy")
    if teacher is not None and math.isfinite(teacher):
        label = f"teacher, {100 * teacher:.1f} %"
        axes.axhline(100 * teacher, color=INK, linewidth=1.2, linestyle=(0, (6, 4)), zorder=1, label=label)
    axes.margins(y=0.08)
    axes.set_ylabel("Test accuracy (%)", color=INK)
    _byte_axis(axes, low, high)
    if result.all_label_bytes > 0:
        _ratio_axis(axes, result.all_label_bytes, low, high)
    canvas.text(0.03, 0.955, plain(result.experiment), fontsize=12.5, fontweight="bold", color=INK, va="center")
    _draw_legend(canvas, axes)
    canvas.text(0.73, 0.125, _note(result), fontsize=7.5, color=GREY, va="bottom", linespacing=1.4)
    return canvas


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    """The front with a line through it and the accuracies beside its points; the other points as rings."""
    on_front = _by_bytes(points)
    if len(on_front) > 1:
        axes.plot(_sizes(on_front), _percents(on_front), color=BLUE, linewidth=2, zorder=3)
    _scatter(axes, on_front, "o", BLUE, "ours, on the front", filled=True)
    for point in on_front:
        axes.annotate(
            f"{100 * point.accuracy.mean:.1f}", (point.label_bytes, 100 * (point.accuracy.mean + point.accuracy.std)),
            xytext=(0, 6), textcoords="offset points", ha="center", va="bottom", fontsize=8.5, color=BLUE, zorder=5,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    others = [point for point in points if not point.on_front]
    _scatter(axes, others, "o", BLUE, "ours, not on the front", filled=False)


def _draw_baselines(axes: Axes, baselines: Sequence[Point]) -> None:
    for index, group in enumerate(_by_description(baselines)):
        colour, marker, name = _style(index, OTHER_COLOURS), _style(index, MARKERS), _legend_name(group[0])
        if group[0].label_bytes > 0:
            _scatter(axes, group, marker, colour, name, filled=True)
        elif math.isfinite(group[0].accuracy.mean):
            height = 100 * group[0].accuracy.mean
            axes.axhline(height, color=colour, linewidth=1.4, linestyle=":", label=f"{name} (0 B)", zorder=2)


def _draw_legend(canvas: Figure, axes: Axes) -> None:
    """matplotlib lists lines before points; the points come first here, without their bars, the teacher last."""
    handles, labels = axes.get_legend_handles_labels()
    entries = sorted(zip(handles, labels, strict=True), key=lambda entry: not isinstance(entry[0], ErrorbarContainer))
    shown = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle, _ in entries]
    canvas.legend(
        shown, [label for _, label in entries], loc="upper left", bbox_to_anchor=(0.725, 0.835), frameon=False,
        fontsize=8.5, labelspacing=0.9, handlelength=2.2, borderaxespad=0,
    )  # fmt: skip


def interactive(result: SweepResult) -> plotly.graph_objects.Figure:
    """The same picture for a browser; hovering over a point shows its whole configuration."""
    chart = plotly.graph_objects.Figure()
    low, high = _byte_limits(result)
    on_front = _by_bytes(result.points)
    others = [point for point in result.points if not point.on_front]
    groups = [
        ("ours, on the front", on_front, {"symbol": "circle", "color": BLUE, "size": 11}),
        ("ours, not on the front", others, {"symbol": "circle-open", "color": BLUE, "size": 10}),
    ]
    for index, group in enumerate(_by_description(result.baselines)):
        look = {"symbol": _style(index, _PLOTLY_SYMBOLS), "color": _style(index, OTHER_COLOURS), "size": 11}
        groups.append((escape(_one_line(group[0])), group, look))
    for name, points, marker in groups:
        if not points:
            continue
        without_bytes = points[0].label_bytes <= 0
        if without_bytes:
            points, name = [points[0], points[0]], f"{name} (0 B)"  # noqa: PLW2901
        chart.add_scatter(
            x=[low, high] if without_bytes else _sizes(points),
            y=_percents(points),
            name=name,
            mode="lines" if without_bytes else ("lines+markers" if points is on_front else "markers"),
            marker=None if without_bytes else marker,
            line={"color": marker["color"], "dash": "dot" if without_bytes else "solid"},
            error_y=None if without_bytes else {"array": [100 * p.accuracy.std for p in points], "thickness": 1.3},
            text=[_hover(point) for point in points],
            hovertemplate="%{text}<extra></extra>",
        )
    teacher = result.teacher.get("accuracy")
    if teacher is not None and math.isfinite(teacher):
        chart.add_scatter(
            x=[low, high], y=[100 * teacher] * 2, name=f"teacher, {100 * teacher:.1f} %", mode="lines",
            line={"color": INK, "dash": "dash", "width": 1.5}, hoverinfo="name",
        )  # fmt: skip
    ticks = _ticks(low, high)
    chart.update_xaxes(
        type="log", range=[math.log10(low), math.log10(high)], title="Labels on disk",
        tickvals=ticks, ticktext=[format_bytes(tick) for tick in ticks], gridcolor="#e6e6e6",
    )  # fmt: skip
    chart.update_yaxes(title="Test accuracy (%)", gridcolor="#e6e6e6", zeroline=False)
    chart.update_layout(
        title={"text": escape(result.experiment)}, template="plotly_white", hoverlabel={"align": "left"},
        legend={"itemsizing": "constant"},
    )  # fmt: skip
    return chart


def _style(index: int, styles: Sequence[str]) -> str:
    return styles[index % len(styles)]


def _by_bytes(points: Sequence[Point]) -> list[Point]:
    """The points of the front, the smallest first."""
    return sorted((point for point in points if point.on_front), key=lambda point: point.label_bytes)


def _sizes(points: Sequence[Point]) -> list[int]:
    return [point.label_bytes for point in points]


def _percents(points: Sequence[Point]) -> list[float]:
    return [100 * point.accuracy.mean for point in points]


def _scatter(axes: Axes, points: Sequence[Point], marker: str, colour: str, label: str, *, filled: bool) -> None:
    if points:
        deviations = [100 * point.accuracy.std for point in points]
        axes.errorbar(
            _sizes(points), _percents(points), yerr=deviations, fmt=marker, color=colour, label=label, markersize=7.5,
            markerfacecolor=colour if filled else "white", markeredgecolor="white" if filled else colour,
            markeredgewidth=0.8 if filled else 1.5, elinewidth=1.3, capsize=3, zorder=4,
        )  # fmt: skip


def _by_description(baselines: Sequence[Point]) -> list[list[Point]]:
    """Baselines of one kind, at several budgets, share a marker."""
    groups: dict[str, list[Point]] = {}
    for baseline in baselines:
        groups.setdefault(_one_line(baseline), []).append(baseline)
    return list(groups.values())


def _one_line(point: Point) -> str:
    """What its marker stands for: a series of baselines, where it is one of them."""
    return (
        point.config.get("series")
        or point.config.get("description")
        or point.trial_id.replace("_", " ").replace("-", " ")
    )


def _legend_name(point: Point) -> str:
    """The name of a baseline, broken into lines that fit beside the axes."""
    lines = [""]
    for word in plain(_one_line(point)).split():
        if lines[-1] and len(lines[-1]) + len(word) > 26:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _note(result: SweepResult) -> str:
    seeds = max((point.accuracy.n for point in result.points), default=1)
    bars = f"Bars: deviation over {seeds} seeds.\n" if seeds > 1 else ""
    front = "The front is by validation accuracy.\n" if len(result.points) > 1 else ""
    return f"{bars}{front}All labels: {format_bytes(result.all_label_bytes)}.\n1 KB = 1000 bytes."


def _byte_limits(result: SweepResult) -> tuple[float, float]:
    """The ends of the byte axis: every size that is drawn, with a margin."""
    sizes = [p.label_bytes for p in (*result.points, *result.baselines) if p.label_bytes > 0] or [1000, 10_000]
    margin = max(1.35, (max(sizes) / min(sizes)) ** 0.07)
    return min(sizes) / margin, max(sizes) * margin


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of every decade, fewer where they would crowd; always at least one tick where there is room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
    span = math.log10(high / low)
    step = steps[0] if span < 0.8 else steps[1] if span < 2.4 else steps[2] if span < 4 else steps[3]
    return [digit * 10.0**decade for decade in decades for digit in step if low <= digit * 10.0**decade <= high]


def _times(ratio: float) -> str:
    """To four digits, and never with an exponent: "100,000×"."""
    return f"{float(f'{ratio:.4g}'):,.10g}×"


def _byte_axis(axes: Axes, low: float, high: float) -> None:
    axes.set_xlabel("Labels on disk", color=INK)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _ratio_axis(axes: Axes, all_label_bytes: int, low: float, high: float) -> None:
    """The upper axis: how many times smaller than all labels."""
    upper = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    ratios = _ticks(all_label_bytes / high, all_label_bytes / low)
    upper.xaxis.set_major_locator(FixedLocator([all_label_bytes / ratio for ratio in ratios]))
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _times(all_label_bytes / value)))
    upper.xaxis.set_minor_locator(NullLocator())
    upper.set_xlabel("times smaller than all labels", color=GREY, fontsize=9)
    upper.tick_params(colors=GREY, labelsize=8.5)
    upper.spines["top"].set_color("#cccccc")


def _hover(point: Point) -> str:
    accuracy, deviation = 100 * point.accuracy.mean, 100 * point.accuracy.std
    name = point.trial_id if point.budget is None else f"budget {format_bytes(point.budget)}"
    lines: list[Any] = [
        f"<b>{escape(name)}</b>",
        f"labels {format_bytes(point.label_bytes)} ({point.label_bytes:,} bytes)",
        f"test {accuracy:.2f} ± {deviation:.2f} % ({point.accuracy.n} seeds)",
        f"validation {100 * point.val_accuracy:.2f} %",
        *(f"{escape(str(key))}: {escape(str(value))}" for key, value in point.config.items() if value is not None),
    ]
    return "<br>".join(lines)
