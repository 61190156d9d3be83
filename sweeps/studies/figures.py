"""The figure of a study: accuracy by what it varies; for some, a second panel of what follows from that."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sweeps.report import INK, plain, tidy
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Study


def figure(study: Study, results: Sequence[CaseResult]) -> Figure:
    """The panels of a study beside each other, under what it asks."""
    panels = study.panels(results)
    canvas = Figure(figsize=(8.0 * len(panels), 4.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(canvas)
    for axes, draw in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        tidy(axes, "both")
    canvas.axes[0].set_title(plain(study.about).capitalize(), fontsize=11, fontweight="bold", color=INK, loc="left")
    return canvas
