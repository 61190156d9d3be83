"""The figure of a training's temperatures: the teacher's, as scheduled, and the student's, as calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sweeps.report.palette import BLUE, INK, OTHER_COLOURS, plain, tidy

_COLUMNS = 3
_DASHED = (0, (6, 3))


def temperature_figure(trainings: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Teacher temperature T (dashed) and student temperature tau (solid) by epoch, on log axes: a panel a training.

    Args:
        trainings: by title, (T, tau) of every epoch; at least one training of at least one epoch.
    """
    columns = min(_COLUMNS, len(trainings))
    rows = -(-len(trainings) // columns)
    canvas = Figure(figsize=(3.4 * columns + 0.4, 2.5 * rows + 0.9), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(rows, columns, sharey=True, squeeze=False)
    for panel in panels.flat[len(trainings) :]:
        panel.set_visible(False)
    for panel, (title, history) in zip(panels.flat, trainings.items(), strict=False):
        teacher, student = ([pair[who] for pair in history] for who in (0, 1))
        panel.plot(teacher, color=OTHER_COLOURS[0], linestyle=_DASHED, linewidth=1.6, label="teacher's T")
        panel.plot(student, color=BLUE, linewidth=1.8, label="student's τ, fitted")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_title(plain(title), fontsize=9.5, color=INK, loc="left")
        panel.set_xlabel("Epoch", color=INK)
        tidy(panel, "both")
    for row in panels:
        row[0].set_ylabel("Temperature", color=INK)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return canvas
