import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lpqld.errors import ConfigError
from lpqld.training.targets import SoftTargets
from lpqld.training.temperature import cosine, fit_student_temperature, grid_losses, least_of_grid, parse_schedule
from tests.checks import softmax


def plain_step(epoch: int, num_epochs: int, start: float, end: float) -> float:
    """max(T0 * 0.7 ** floor(e / s), T_min) with s = E / 10, in whole numbers."""
    return max(start * 0.7 ** (10 * epoch // num_epochs), end)


class TestSchedules:
    def test_a_number_is_constant(self):
        schedule = parse_schedule("20", 10)
        assert [schedule(epoch) for epoch in range(10)] == [20.0] * 10

    @pytest.mark.parametrize("num_epochs", [1, 7, 10, 35, 100, 300, 999, 1200])
    def test_steps_follow_the_formula(self, num_epochs):
        schedule = parse_schedule("20:2:step", num_epochs)
        expected = [plain_step(epoch, num_epochs, 20, 2) for epoch in range(num_epochs)]
        assert [schedule(epoch) for epoch in range(num_epochs)] == pytest.approx(expected)

    @given(st.integers(1, 5000), st.data())
    def test_steps_fall_in_the_right_epoch_for_any_length(self, num_epochs, data):
        tenth = data.draw(st.integers(0, 9))
        epoch = -(-tenth * num_epochs // 10)
        assume(epoch < num_epochs)
        schedule = parse_schedule("100:0.001:step", num_epochs)
        assert schedule(epoch) == pytest.approx(plain_step(epoch, num_epochs, 100, 0.001))

    def test_the_papers_steps(self):
        schedule = parse_schedule("20:2:step", 300)
        assert [schedule(epoch) for epoch in (0, 29, 30, 59, 60, 180, 210, 299)] == pytest.approx(
            [20, 20, 14, 14, 9.8, 20 * 0.7**6, 2, 2]
        )

    @pytest.mark.parametrize("num_epochs", [1, 10, 300])
    def test_cosine_follows_the_formula(self, num_epochs):
        schedule = parse_schedule("20:2:cosine", num_epochs)
        for epoch in range(num_epochs):
            assert schedule(epoch) == pytest.approx(2 + 18 * (1 + math.cos(math.pi * epoch / num_epochs)) / 2)
        assert cosine(20.0, 1.0, 100)(100) == pytest.approx(1.0)

    @pytest.mark.parametrize("shape", ["step", "cosine"])
    @pytest.mark.parametrize("num_epochs", [1, 13, 300])
    def test_reversed_is_the_forward_value_at_the_mirrored_epoch(self, shape, num_epochs):
        forward, backward = parse_schedule(f"20:2:{shape}", num_epochs), parse_schedule(f"2:20:{shape}", num_epochs)
        for epoch in range(num_epochs):
            assert backward(epoch) == forward(num_epochs - 1 - epoch)

    @pytest.mark.parametrize("spec", ["20:2:step", "20:2:cosine", "5:5:step"])
    def test_temperatures_never_rise_and_stay_in_range(self, spec):
        schedule = parse_schedule(spec, 97)
        values = [schedule(epoch) for epoch in range(97)]
        assert values == sorted(values, reverse=True)
        assert float(spec.split(":")[1]) <= min(values)
        assert values[0] == float(spec.split(":")[0])

    @pytest.mark.parametrize(
        "spec",
        [
            "",
            "warm",
            "20:2",
            "20:2:line",
            "20:2:constant",
            "20:2:step:x",
            "0",
            "-1",
            "20:0:step",
            "nan",
            "inf",
            "20:nan:step",
            ":2:step",
        ],
    )
    def test_anything_else_is_refused_with_what_was_expected(self, spec):
        with pytest.raises(ConfigError, match="expected 20 "):
            parse_schedule(spec, 10)


def divergence(logits: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    """Mean KL(targets || softmax(logits / t)), float64, plain."""
    total = 0.0
    for row, target in zip(logits.astype(np.float64) / temperature, targets, strict=True):
        log_sum = row.max() + math.log(np.exp(row - row.max()).sum())
        total += sum(p * (math.log(p) - (z - log_sum)) for p, z in zip(target, row, strict=True) if p > 0)
    return total / len(logits)


def case(seed: int, num_views: int, num_classes: int, scale: float, sharpness: float, k: int):
    """Student logits, target ids, target probabilities, and the latter over all classes."""
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal((num_views, num_classes)) * scale).astype(np.float32)
    ids = np.argsort(generator.random((num_views, num_classes)), axis=1)[:, :k]
    kept = np.take_along_axis(logits / scale, ids, axis=1) + generator.standard_normal((num_views, k)) * 0.5
    probabilities = softmax(kept * sharpness)
    targets = np.zeros((num_views, num_classes))
    np.put_along_axis(targets, ids, probabilities, axis=1)
    return logits, torch.from_numpy(ids), torch.from_numpy(probabilities), targets


CASES = st.builds(
    case,
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(2, 12),
    st.floats(0.01, 60),
    st.floats(0.02, 20),
    st.sampled_from([1, 2]),
)


class TestFit:
    @settings(max_examples=100)
    @given(CASES)
    def test_the_fitted_temperature_is_that_of_a_dense_search(self, made):
        logits, ids, probabilities, targets = made
        fitted = fit_student_temperature(torch.from_numpy(logits), SoftTargets(ids, probabilities))
        assert 0.01 - 1e-12 <= fitted <= 100 + 1e-9
        grid = np.geomspace(0.01, 100, 400)
        losses = np.array([divergence(logits, targets, t) for t in grid])
        best = int(losses.argmin())
        found = divergence(logits, targets, fitted)
        assert found <= losses[best] + 1e-9 * max(1, abs(losses[best]))
        # The loss is convex in 1 / t, so its minimum lies between the neighbours of the best point of the grid.
        flat = losses <= losses[best] + 1e-9
        low, high = grid[max(int(flat.argmax()) - 1, 0)], grid[min(int(np.flatnonzero(flat)[-1]) + 1, 399)]
        assert low * (1 - 1e-6) <= fitted <= high * (1 + 1e-6)

    def test_a_student_that_has_the_targets_up_to_a_temperature_gets_it_back(self):
        generator = np.random.default_rng(0)
        for temperature in (0.02, 0.5, 1.0, 7.3, 80.0):
            values = generator.standard_normal((50, 10)) * 3 * temperature
            targets = torch.from_numpy(softmax(values / temperature))
            ids = torch.arange(10).expand(50, 10)
            fitted = fit_student_temperature(torch.from_numpy(values), SoftTargets(ids, targets))
            assert fitted == pytest.approx(temperature, rel=1e-5)

    @pytest.mark.parametrize(
        ("logits", "targets", "expected"),
        [
            ([[1.0, 0.0]], [[1.0, 0.0]], 0.01),
            ([[1.0, 0.0]], [[0.0, 1.0]], 100.0),
            ([[1.0, 0.0]], [[0.5, 0.5]], 100.0),
            ([[3.0, 3.0]], [[0.9, 0.1]], 100.0),
            ([[1e-6, 0.0]], [[0.9, 0.1]], 0.01),
            ([[1e4, 0.0]], [[0.9, 0.1]], 100.0),
        ],
        ids=["sure and right", "sure and wrong", "uniform", "constant logits", "tiny logits", "huge logits"],
    )
    def test_the_ends_of_the_range_are_kept(self, logits, targets, expected):
        ids = torch.tensor([[0, 1]])
        assert fit_student_temperature(torch.tensor(logits), SoftTargets(ids, torch.tensor(targets))) == pytest.approx(
            expected
        )


def grid_search(logits: torch.Tensor, ids: torch.Tensor, probabilities: torch.Tensor) -> float:
    return least_of_grid(grid_losses(logits, SoftTargets(ids, probabilities)))


class TestGrid:
    @settings(max_examples=60)
    @given(CASES)
    def test_the_papers_search_is_that_of_a_plain_one(self, made):
        logits, ids, probabilities, targets = made
        losses = np.array([divergence(logits, targets, t / 100) for t in range(1, 101)])
        found = grid_search(torch.from_numpy(logits), ids, probabilities)
        place = round(found * 100) - 1
        assert found == (place + 1) / 100
        # float32 against float64: the chosen one is the best within rounding.
        assert losses[place] <= losses.min() + 2e-6 * max(1.0, float(np.abs(logits).max()) / found)

    def test_the_grid_ends_at_one(self):
        ids = torch.tensor([[0, 1]])
        assert grid_search(torch.tensor([[40.0, 0.0]]), ids, torch.tensor([[0.6, 0.4]])) == 1.0
        assert grid_search(torch.tensor([[0.001, 0.0]]), ids, torch.tensor([[0.9, 0.1]])) == 0.01
        # softmax(s / t) of s = (0.5 ln 3, 0) is (0.75, 0.25) at t = 0.5.
        half = torch.tensor([[0.5 * math.log(3), 0.0]])
        assert grid_search(half, ids, torch.tensor([[0.75, 0.25]])) == 0.5
