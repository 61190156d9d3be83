import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.counter_random import Stream, permutation, random_words, uniform

# The first is also the known answer that the authors of Philox publish for a counter and key of zeros (Random123).
GOLDEN_ZERO = ("16554d9eca36314c", "db20fe9d672d0fdc", "d7e772cee186176b", "7e68b68aec7ba23b")
GOLDEN_SEVEN = ("6d72f58bd1be31dd", "452fde1cc186dc0a", "f074abd8a2f9a4cb", "d94231e1867d6760")
GOLDEN_PERMUTATIONS = ([3, 7, 1, 11, 8, 4, 5, 10, 2, 6, 0, 9], [2, 7, 10, 5, 6, 8, 4, 11, 0, 9, 3, 1])

WORD = st.integers(0, 2**64 - 1)
NUMBER = st.integers(0, 2**63 - 1)


def numpy_words(seed: int, stream: int, image_id: int, view: int, block: int) -> list[int]:
    """The same four words from numpy's Philox, which increments its counter before it generates."""
    counter = (block + (view << 64) + (image_id << 128) - 1) % 2**256
    return np.random.Philox(counter=counter, key=seed + (stream << 64)).random_raw(4).tolist()


def one(seed: int, stream: int, image_id: int, view: int, block: int) -> list[int]:
    ids, views = np.array([image_id], dtype=np.int64), np.array([view], dtype=np.int64)
    return random_words(seed, stream, ids, views, block)[:, 0].tolist()


@given(WORD, WORD, NUMBER, NUMBER, st.integers(0, 2**20))
def test_words_are_those_of_numpys_philox(seed, stream, image_id, view, block):
    assert one(seed, stream, image_id, view, block) == numpy_words(seed, stream, image_id, view, block)


def test_many_counters_at_once_are_those_of_numpys_philox():
    ids, views = np.arange(500, dtype=np.int64) * 977, np.arange(500, dtype=np.int64) % 7
    words = random_words(3, 1, ids, views, block=2)
    assert words.dtype == np.uint64
    expected = [numpy_words(3, 1, int(i), int(v), 2) for i, v in zip(ids, views, strict=True)]
    assert words.T.tolist() == expected


@pytest.mark.parametrize(
    "changed",
    [(1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)],
    ids=["seed", "stream", "image", "view", "block"],
)
def test_every_argument_changes_the_words(changed):
    assert not set(one(*changed)) & set(one(0, 0, 0, 0, 0))


def test_words_are_pinned():
    # May change only together with views.RULE_VERSION: these words decide every view of every label set.
    assert one(0, 0, 0, 0, 0) == [int(word, 16) for word in GOLDEN_ZERO]
    assert one(7, 1, 42, 3, 16) == [int(word, 16) for word in GOLDEN_SEVEN]


def test_uniform_numbers_stay_below_one():
    extremes = uniform(np.array([0, 2**64 - 1, 2**63], dtype=np.uint64))
    assert extremes.tolist() == [0.0, 1 - 2.0**-53, 0.5]


def test_uniform_numbers_are_uniform():
    numbers = uniform(random_words(5, 1, np.arange(25_000), np.zeros(25_000, dtype=np.int64), 0)).ravel()
    assert ((numbers >= 0) & (numbers < 1)).all()
    # Four standard errors of the mean and of the variance of 100,000 draws.
    assert numbers.mean() == pytest.approx(1 / 2, abs=4 / np.sqrt(12 * 100_000))
    assert numbers.var() == pytest.approx(1 / 12, abs=4 * np.sqrt(1 / 180 / 100_000))
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 50  # chi-squared, 19 degrees of freedom: 1 in 10,000


@given(WORD, st.integers(0, 1000), st.integers(0, 300))
def test_a_permutation_holds_every_number_once(seed, epoch, size):
    assert sorted(permutation(seed, 2, epoch, size).tolist()) == list(range(size))


def test_permutations_are_pinned():
    # May change only together with views.RULE_VERSION: a recorded training order would otherwise silently differ.
    assert permutation(0, 2, 0, 12).tolist() == GOLDEN_PERMUTATIONS[0]
    assert permutation(7, 2, 3, 12).tolist() == GOLDEN_PERMUTATIONS[1]


def test_epochs_and_seeds_have_their_own_permutations():
    orders = {tuple(permutation(seed, 2, epoch, 30)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_streams_have_a_number_each_for_ever():
    # Another number would change every draw of its use; a number of two uses would make them draw the same.
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == {
        "VIEWS": 1,
        "ORDER": 2,
        "CLASS_SAMPLE": 3,
        "SPLIT": 4,
        "FIDELITY_SAMPLE": 5,
        "RECOVER": 8,
        "START": 9,
        "TRAINING_IMAGE_SAMPLE": 10,
    }
    assert len(set(Stream)) == len(Stream.__members__)
