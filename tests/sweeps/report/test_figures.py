"""The figures of temperatures and of bars: what they draw; the front's are in test_report."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from sweeps.report.bars import bar_figure
from sweeps.report.palette import BLUE, GREY, OTHER_COLOURS, png
from sweeps.report.result import Accuracy
from sweeps.report.temperatures import temperature_figure


def training(epochs: int) -> list[tuple[float, float]]:
    return [(20 * 0.7**epoch, 1 + epoch / 10) for epoch in range(epochs)]


def accuracy(mean: float, std: float = 0.01) -> Accuracy:
    return Accuracy.of([mean - std, mean, mean + std])


class TestTemperatures:
    @pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 3))])
    def test_a_panel_a_training_with_both_temperatures(self, count, shape):
        trainings = {f"{number} KB: $20$": training(5 + number) for number in range(count)}
        canvas = temperature_figure(trainings)
        panels = [axes for axes in canvas.axes if axes.get_visible()]
        assert len(canvas.axes) == np.prod(shape)
        assert len(panels) == count
        for panel, (title, history) in zip(panels, trainings.items(), strict=True):
            teacher, student = (line.get_ydata() for line in panel.get_lines())
            assert list(zip(teacher, student, strict=True)) == history
            assert panel.get_title("left").replace("\\", "") == title

    def test_equal_trainings_give_equal_bytes(self):
        first, again = (png(temperature_figure({"x": training(9)})) for _ in range(2))
        assert first == again
        assert first.startswith(b"\x89PNG")

    def test_a_student_that_diverged_at_once_has_an_empty_panel(self):
        assert png(temperature_figure({"diverged": [], "x": training(3)}))


class TestBars:
    def test_what_is_clearly_better_or_worse_has_a_colour(self):
        groups = {"CA": {"off": accuracy(0.2), "paper": accuracy(0.305)}, "k": {"$2$": accuracy(0.4)}}
        (axes,) = bar_figure("Ablation $x$", accuracy(0.3), groups).axes
        bars = [patch for patch in axes.patches if patch.get_height() == pytest.approx(0.68)]
        assert [round(bar.get_width(), 6) for bar in bars] == [20.0, 30.5, 40.0]
        assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [
            OTHER_COLOURS[0], GREY.upper(), BLUE.upper()
        ]  # fmt: skip
        assert [label.get_text() for label in axes.get_yticklabels()] == ["off", "paper", "\\$2\\$"]
        places = [bar.get_y() + 0.34 for bar in bars]
        assert places == sorted(places)

    def test_it_is_drawn_for_one_seed_and_for_a_student_that_diverged(self):
        one = Accuracy.of([0.3])
        assert png(bar_figure("one", one, {"x": {"y": Accuracy.of([math.nan]), "z": one}}))
