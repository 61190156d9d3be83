"""The law against a plain reference, data that obey it, and grids too small for it."""

import math

import numpy as np
import pytest

from sweeps.studies.scaling_law import fit_scaling_law

GRID = [(ipc, k) for ipc in (1, 5, 10, 50) for k in (0, 2, 5, 20, 100)]
TRUE = (-2.0, 0.5, 0.3, -0.02)


def accuracy_of(ipc: float, k: float) -> float:
    x, y = math.log(ipc), math.log(max(k, 1))
    return 1 / (1 + math.exp(-(TRUE[0] + TRUE[1] * x + TRUE[2] * y + TRUE[3] * x * y)))


def fit(grid, accuracies):
    return fit_scaling_law([ipc for ipc, _ in grid], [k for _, k in grid], accuracies)


def test_finds_the_law_that_data_obey():
    law = fit(GRID, [accuracy_of(*at) for at in GRID])
    assert law.coefficients == pytest.approx(TRUE, abs=1e-9)
    assert law.rms < 1e-9
    assert law.accuracy(20, 7).value == pytest.approx(accuracy_of(20, 7))
    worth = law.worth(5, 20)
    assert worth.value > 1
    assert accuracy_of(5 * worth.value, 0) == pytest.approx(accuracy_of(5, 20)), "as many hard labels do as much"
    assert law.worth(5, 1).value == pytest.approx(1)


def test_bands_hold_what_is_true_as_often_as_they_say():
    generator = np.random.default_rng(0)
    inside, trials = 0, 300
    for _ in range(trials):
        odds = [math.log(accuracy_of(*at) / (1 - accuracy_of(*at))) + generator.normal(0, 0.1) for at in GRID]
        law = fit(GRID, [1 / (1 + math.exp(-each)) for each in odds])
        found = law.accuracy(10, 5)
        assert found.low < found.value < found.high
        inside += found.low <= accuracy_of(10, 5) <= found.high
    assert 0.91 <= inside / trials <= 0.985


def test_no_gain_of_images_is_no_finite_worth():
    law = fit(GRID, [0.2 + 0.05 * math.log(max(k, 1)) - 0.01 * math.log(ipc) for ipc, k in GRID])
    worth = law.worth(5, 20)
    assert math.isnan(worth.value)
    assert worth.to_json()["value"] is None


def test_a_band_that_reaches_to_where_images_do_not_help_has_no_end():
    generator = np.random.default_rng(0)
    law = fit(GRID, [0.2 + 0.004 * math.log(ipc) + 0.02 * (k > 1) + generator.normal(0, 0.01) for ipc, k in GRID])
    worth = law.worth(5, 20)
    assert worth.low <= worth.value <= worth.high == math.inf
    assert worth.to_json()["high"] is None


@pytest.mark.parametrize(
    "grid",
    [
        [(ipc, k) for ipc in (1, 10) for k in (0, 5)],  # four points leave nothing to judge by
        [(1, k) for k in (0, 2, 5, 10, 100)],
        [(ipc, 5) for ipc in (1, 2, 5, 10, 100)],
        [(ipc, k) for ipc in (1, 10, 20) for k in (0, 1)],  # the same to the law
    ],
)
def test_too_small_a_grid_has_no_law(grid):
    assert fit(grid, [0.1 + 0.01 * index for index in range(len(grid))]) is None


def test_accuracies_of_nothing_and_all():
    law = fit(GRID, [0.0 if k < 5 else 1.0 for _, k in GRID])
    assert np.isfinite(law.coefficients).all()
