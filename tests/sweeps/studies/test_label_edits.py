"""Labels changed on purpose, beside plain loops."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lpqld.errors import ConfigError
from sweeps.studies.catalogue.hard import smoothed
from sweeps.studies.catalogue.swap import swapped, swapped_top
from sweeps.studies.catalogue.temperature import softened
from sweeps.studies.catalogue.zero_shot import without_class


def made_up(seed: int, ties: bool = False) -> np.ndarray:
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3, size=(6, int(generator.integers(4, 12)))).astype(np.float32)
    return np.round(logits) if ties else logits


def softmax(row) -> list[float]:
    exponentials = [math.exp(float(value) - max(map(float, row))) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def plainly_swapped(row, pairs) -> list[float]:
    """Values at places of the descending order exchanged, pair by pair."""
    order = sorted(range(len(row)), key=lambda place: (-row[place], place))
    found = list(row)
    for one, other in pairs:
        found[order[one]], found[order[other]] = row[order[other]], row[order[one]]
    return found


@given(seed=st.integers(0, 10**6), ties=st.booleans(), data=st.data())
def test_a_rank_and_the_last_are_exchanged(seed, ties, data):
    logits = made_up(seed, ties)
    rank = data.draw(st.integers(1, logits.shape[1] - 1))
    found = swapped(logits, rank)
    assert found.tolist() == [plainly_swapped(row, [(rank - 1, len(row) - 1)]) for row in logits.tolist()]
    assert np.sort(found, axis=1).tolist() == np.sort(logits, axis=1).tolist(), "no value is lost"


@given(seed=st.integers(0, 10**6), ties=st.booleans(), data=st.data())
def test_the_top_and_the_bottom_are_exchanged(seed, ties, data):
    logits = made_up(seed, ties)
    count = data.draw(st.integers(1, logits.shape[1] // 2))
    pairs = [(place, logits.shape[1] - 1 - place) for place in range(count)]
    found = swapped_top(logits, count)
    assert found.tolist() == [plainly_swapped(row, pairs) for row in logits.tolist()]
    assert swapped_top(logits, 1).tolist() == swapped(logits, 1).tolist()


@pytest.mark.parametrize("rank", [0, 10, -1])
def test_ranks_that_are_not_there(rank):
    with pytest.raises(ConfigError, match="at ranks 1 to 9 here"):
        swapped(np.zeros((2, 10), dtype=np.float32), rank)
    with pytest.raises(ConfigError, match="at ranks 1 to 5 here"):
        swapped_top(np.zeros((2, 10), dtype=np.float32), rank)


def test_a_softer_label_at_1_is_the_label_at_that_temperature():
    logits = made_up(1)
    for row, soft in zip(logits, softened(logits, 4.0), strict=True):
        assert softmax(soft) == pytest.approx(softmax([value / 4 for value in row]), rel=1e-6)
    with pytest.raises(ConfigError, match="above 0, found 0"):
        softened(logits, 0.0)


def test_a_smoothed_label_has_its_class_and_a_little_of_all():
    for row, label in zip(smoothed(np.array([2, 0]), 5, 0.1), (2, 0), strict=True):
        expected = [0.02 + 0.9 * (place == label) for place in range(5)]
        assert softmax(row) == pytest.approx(expected, rel=1e-6)
    assert softmax(smoothed(np.array([1]), 4, 1.0)[0]) == pytest.approx([0.25] * 4)
    with pytest.raises(ConfigError, match="above 0, up to 1"):
        smoothed(np.array([1]), 4, 0.0)


@given(seed=st.integers(0, 10**6))
@example(seed=32916)  # the class that is taken is the likeliest by far
def test_a_class_is_taken_from_the_labels_of_other_images_only(seed):
    logits = made_up(seed)
    classes = np.arange(len(logits)) % 3
    found, mass = without_class(logits, classes, 1)
    for row, changed, label, left in zip(logits, found, classes, mass, strict=True):
        before, after = softmax(row), softmax(changed)
        if label == 1:
            assert (after, left) == (before, 1)
        else:
            assert left == pytest.approx(1 - before[1], abs=1e-12)
            assert after[1] < 1e-40
            expected = [0 if place == 1 else value / (1 - before[1]) for place, value in enumerate(before)]
            assert after == pytest.approx(expected, rel=1e-6, abs=1e-12)
