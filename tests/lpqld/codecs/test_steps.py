import numpy as np
import pytest

from lpqld.codecs import Dense, Logits, TopK, dense_ids
from lpqld.codecs.steps import step_for_bits
from lpqld.errors import ConfigError
from tests.checks import decoded, random_logits


@pytest.mark.parametrize("bits", range(2, 16))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_pilots_values_fit_the_bits(k, bits):
    logits = random_logits(500, 10, seed=bits)
    step = step_for_bits(Logits(dense_ids(500, 10), logits), k, bits)
    back = decoded(TopK(k, step), logits)
    widest = int(np.rint((back.values.max(axis=1) - back.values.min(axis=1)).astype(np.float64) / step).max())
    assert widest <= 2**bits - 1
    assert k == 1 or widest >= (2**bits - 1) * 0.99 - 1


def test_sixteen_bits_are_fp16():
    assert step_for_bits(Logits(dense_ids(2, 4), random_logits(2, 4)), 2, 16) is None


def test_the_span_is_that_of_the_kept_values():
    pilot = Logits(dense_ids(2, 4), np.array([[10.0, 7.0, -90.0, 4.0], [1.0, 1.0, 0.0, 0.0]], dtype=np.float32))
    assert step_for_bits(pilot, 3, 2) == 2.0
    assert step_for_bits(pilot, 2, 2) == 1.0


@pytest.mark.parametrize("bits", [1, 17, 0, -4])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ConfigError, match="bits must be 2 to 16"):
        step_for_bits(Logits(dense_ids(2, 4), random_logits(2, 4)), 2, bits)


def test_codecs_of_values_say_their_step_and_take_another():
    for codec in (Dense(), TopK(3, None, "tail")):
        assert (codec.value_step, codec.stores_half, codec.difference_unit) == (None, True, 1 / 64)
    codec = TopK(3, 0.5, "share", 4.0)
    assert (codec.value_step, codec.stores_half, codec.difference_unit) == (0.5, False, 0.5)
    assert codec.with_step(0.25) == TopK(3, 0.25, "share", 4.0)
    assert Dense().with_step(0.25) == Dense(0.25)
