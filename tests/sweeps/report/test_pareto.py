"""The fast front against the definition, point by point."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.report.pareto import front, hypervolume

few_costs = st.one_of(st.integers(1, 6), st.integers(1, 10**9))
few_values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, -math.inf, math.nan]), st.floats(-1, 1))
some_points = st.lists(st.tuples(few_costs, few_values), max_size=40)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(some_points)
def test_front_is_what_no_other_point_beats(points: list[tuple[int, float]]) -> None:
    expected = [
        not math.isnan(point[1]) and not any(beats(other, point) for other in points if not math.isnan(other[1]))
        for point in points
    ]
    costs, values = [cost for cost, _ in points], [value for _, value in points]
    assert front(costs, values).tolist() == expected


@given(some_points, st.randoms())
def test_front_does_not_depend_on_order(points: list[tuple[int, float]], random: object) -> None:
    order = list(range(len(points)))
    random.shuffle(order)  # type: ignore[attr-defined]
    costs, values = np.array([c for c, _ in points], float), np.array([v for _, v in points], float)
    assert (front(costs, values)[order] == front(costs[order], values[order])).all()


def test_front_keeps_equal_points_and_the_smallest_of_equal_accuracy() -> None:
    assert front([5, 5, 9, 9], [0.5, 0.5, 0.5, 0.6]).tolist() == [True, True, False, True]


def test_front_of_nothing_is_empty() -> None:
    assert front([], []).tolist() == []


def test_front_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="one cost for each value"):
        front([1, 2], [1.0])


@given(st.lists(st.tuples(few_costs, st.floats(0, 1)), max_size=20), st.integers(1, 10**9), st.floats(0, 1))
def test_hypervolume_is_the_sum_of_the_strips_that_points_cover(
    points: list[tuple[int, float]], reference_cost: int, reference_value: float
) -> None:
    edges = sorted({reference_cost, *(cost for cost, _ in points if cost < reference_cost)})
    area = 0.0
    for left, right in itertools.pairwise(edges):
        best = max([value for cost, value in points if cost <= left], default=reference_value)
        area += max(0.0, best - reference_value) * math.log10(right / left)
    costs, values = [cost for cost, _ in points], [value for _, value in points]
    assert hypervolume(costs, values, reference_cost, reference_value) == pytest.approx(area, abs=1e-9)


@given(st.lists(st.tuples(few_costs, st.floats(0, 1)), min_size=1, max_size=20), st.tuples(few_costs, st.floats(0, 1)))
def test_another_point_never_shrinks_the_hypervolume(points: list[tuple[int, float]], extra: tuple[int, float]) -> None:
    def area(chosen: list[tuple[int, float]]) -> float:
        return hypervolume([cost for cost, _ in chosen], [value for _, value in chosen], 10**9, 0.1)

    assert area([*points, extra]) >= area(points) - 1e-9


def test_hypervolume_ignores_nan_and_refuses_costs_without_a_logarithm() -> None:
    assert hypervolume([10, 20], [0.2, math.nan], 100, 0.1) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="above zero"):
        hypervolume([0], [0.5], 100, 0.1)
