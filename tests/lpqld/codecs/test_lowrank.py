import numpy as np
import pytest

from lpqld.codecs import LowRank, TopK, codec_from_json, dense_ids
from lpqld.errors import ConfigError, DataError
from tests.checks import decoded, random_logits
from tests.lpqld.codecs.examples import decodes

PILOT = random_logits(300, 6, seed=1) @ random_logits(6, 20, seed=2) / 8


def test_labels_of_low_rank_come_back_within_their_steps():
    codec = LowRank.fit(PILOT, rank=6, step=0.01)
    back = decoded(codec, PILOT)
    centred = PILOT - PILOT.mean(axis=1, keepdims=True)
    assert np.abs(back.values - back.values.mean(axis=1, keepdims=True) - centred).max() < 0.3
    assert back.ids.tolist() == dense_ids(300, 20).tolist()


def test_decoding_is_the_formula():
    codec = LowRank.fit(PILOT, rank=3, step=0.5)
    basis, mean = codec._basis, codec._mean
    centred = PILOT.astype(np.float64) - PILOT.astype(np.float64).mean(axis=1, keepdims=True) - mean
    expected = mean + np.rint(centred @ basis.T / 0.5) * 0.5 @ basis
    assert np.allclose(decoded(codec, PILOT).values, expected, atol=1e-5)


def test_more_directions_and_smaller_steps_are_closer():
    def error(rank: int, step: float) -> float:
        back = decoded(LowRank.fit(PILOT, rank=rank, step=step), PILOT).values
        return float((back - PILOT).std(axis=1).mean())

    assert error(6, 0.05) < error(3, 0.05) < error(1, 0.05)
    assert error(6, 0.05) < error(6, 1.0)


def test_sizes_are_exact_and_bounded():
    codec = LowRank.fit(PILOT, rank=4, bits=5)
    sizes = codec.sizes(PILOT)
    for count in (0, 1, 77, 300):
        assert len(codec.encode(PILOT[:count])) == sizes[count] <= codec.max_bytes(count, 20)


def test_json_round_trip():
    codec = LowRank.fit(PILOT, rank=4, bits=5)
    assert codec_from_json(codec.to_json()) == codec


def test_what_does_not_fit_is_refused():
    for rank, bits in ((0, 8), (20, 8), (3, 1), (3, 17)):
        with pytest.raises(ConfigError):
            LowRank.fit(PILOT, rank=rank, bits=bits)
    codec = LowRank.fit(PILOT, rank=4, bits=5)
    with pytest.raises(ConfigError, match="a basis of 20 classes cannot encode labels of 19"):
        codec.encode(random_logits(2, 19))
    with pytest.raises(ConfigError, match="needs them all"):
        codec.encode(decoded(TopK(3), PILOT), num_classes=20)
    with pytest.raises(DataError, match="cannot decode labels of 19"):
        codec.decode(b"0", num_views=1, num_classes=19)
    for options in ({"basis": codec.basis[:-5]}, {"mean": "\n"}, {"scales": ""}, {"step": 0.0}, {"basis": 3}):
        with pytest.raises(DataError, match="codec: "):
            codec_from_json({**codec.to_json(), **options})


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_damage_is_refused_or_gives_finite_labels():
    codec = LowRank.fit(PILOT, rank=4, bits=5)
    payload = codec.encode(PILOT[:6])
    refused = [not decodes(codec, payload[:length], 6, 20) for length in range(len(payload))]
    assert sum(refused) >= len(payload) - 1
    for position in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        decodes(codec, bytes(damaged), 6, 20)


def test_labels_are_compared_after_projection():
    codec = LowRank.fit(PILOT, rank=3, step=0.5)
    assert np.array_equal(codec.comparable(PILOT), decoded(codec, PILOT).values)
    assert (codec.difference_unit, codec.value_step, codec.stores_half) == (0.5, None, False)
    assert codec.with_step(0.25) is codec
