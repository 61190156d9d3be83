"""The colours of all figures, and how a figure becomes a file."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision; blue is kept for what the figure is about.
BLUE, GREY, INK = "#0072B2", "#6b6b6b", "#222222"
OTHER_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("s", "D", "^", "v", "P", "X", "*")  # one more than colours: their pairs come round late


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file; equal figures give equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def plain(text: str) -> str:
    """`text` as matplotlib writes it: `$` would start a formula, and names come from outside."""
    return text.replace("$", r"\$")


def tidy(axes: Axes, axis: str) -> None:
    """A light grid across `axis` ("x", "y" or "both") behind the data, and no frame above or to the right."""
    axes.grid(True, axis=axis, which="major", color="#e6e6e6", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
