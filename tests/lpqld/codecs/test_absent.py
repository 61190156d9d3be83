"""What the classes that are not kept have, against float64 formulas."""

import numpy as np
import pytest

from lpqld.codecs import Logits, TopK
from lpqld.errors import ConfigError
from tests.checks import decoded, random_logits

LOGITS = random_logits(40, 30, seed=11)


def others(logits: np.ndarray, back: Logits) -> np.ndarray:
    """The absent classes' logits, shifted as the decoded ones are, [N, C - k]."""
    kept = np.take_along_axis(logits, back.ids.astype(np.int64), axis=1).astype(np.float64)
    mask = np.ones(logits.shape, dtype=bool)
    np.put_along_axis(mask, back.ids.astype(np.int64), False, axis=1)
    shift = (kept - back.values).mean(axis=1, keepdims=True)
    return logits[mask].reshape(len(logits), -1).astype(np.float64) - shift


@pytest.mark.parametrize("step", [None, 1e-4], ids=["fp16", "steps"])
def test_the_minimum_is_the_smallest_logit(step):
    back = decoded(TopK(5, step, "minimum"), LOGITS)
    assert back.absent[:, 1].tolist() == [0] * 40
    tolerance = 1 / 32 + 1e-2 if step is None else 1e-3
    assert np.allclose(back.absent[:, 0], others(LOGITS, back).min(axis=1), atol=tolerance)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_a_share_keeps_the_mass_at_its_temperature(temperature):
    back = decoded(TopK(5, 1e-4, "share", temperature), LOGITS)
    expected = np.exp(others(LOGITS, back) / temperature).sum(axis=1)
    assert np.allclose(25 * np.exp(back.absent[:, 0] / temperature), expected, rtol=2e-3)
    assert back.absent[:, 1].tolist() == [0] * 40


def test_a_tail_keeps_the_mass_at_1_and_20_and_nearly_in_between():
    logits = LOGITS / 4
    back = decoded(TopK(5, 1e-4, "tail"), logits)
    for temperature, tolerance in ((1.0, 2e-3), (20.0, 2e-3), (7.0, 0.02), (2.0, 0.05)):
        level = back.absent[:, 0] + back.absent[:, 1] / temperature
        expected = np.exp(others(logits, back) / temperature).sum(axis=1)
        assert np.allclose(25 * np.exp(level / temperature), expected, rtol=tolerance)


def test_a_tail_of_fewer_classes_follows_from_one_of_more():
    larger = decoded(TopK(12, 1e-4, "tail"), LOGITS)
    codec = TopK(5, 1e-4, "tail")
    again = codec.decode(codec.encode(larger, num_classes=30), num_views=40, num_classes=30)
    assert np.allclose(again.absent, decoded(codec, LOGITS).absent, atol=2e-3)


@pytest.mark.parametrize("absent", ["minimum", "tail"])
def test_labels_that_say_nothing_of_absent_classes_cannot_be_given_any(absent):
    with pytest.raises(ConfigError, match="keep 6 of 30 classes and nothing of the others"):
        TopK(5, 0.5, absent).encode(decoded(TopK(6), LOGITS), num_classes=30)


def test_options_that_do_not_go_together_are_refused():
    for options in ({"absent": "mean"}, {"absent": "share"}, {"absent": "tail", "temperature": 4.0}):
        with pytest.raises(ConfigError):
            TopK(2, 0.5, **options)
    with pytest.raises(ConfigError, match="temperature must be"):
        TopK(2, 0.5, "share", -1.0)
