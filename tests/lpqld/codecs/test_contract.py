"""What every codec promises, by example and for any logits, and what damage does to it."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs import Codec, Dense, TopK
from lpqld.errors import DataError
from tests.checks import CODEC_CONTRACT, decoded, random_logits
from tests.lpqld.codecs.examples import CODECS, INPUTS, codecs_with_logits, decodes

CASES = [
    pytest.param(codec, logits, id=f"{name}, {kind}")
    for name, codec in CODECS.items()
    for kind, logits in INPUTS.items()
    if codec.kept(logits.shape[1]) <= logits.shape[1]
]


@pytest.mark.parametrize("check", CODEC_CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("codec", "logits"), CASES)
def test_every_codec_keeps_its_promises(check: Callable[[Codec, np.ndarray], None], codec, logits):
    check(codec, logits)


@settings(max_examples=150)
@given(codecs_with_logits())
def test_promises_hold_for_any_logits(case):
    codec, logits = case
    for check in CODEC_CONTRACT:
        check(codec, logits)


@settings(max_examples=100)
@given(codecs_with_logits(), st.data())
def test_recoding_to_fewer_classes_keeps_the_teachers_argmax(case, data):
    codec, logits = case
    back = decoded(codec, logits)
    smaller = TopK(data.draw(st.integers(1, back.ids.shape[1])), data.draw(st.one_of(st.none(), st.floats(0.01, 10))))
    num_classes = logits.shape[1]
    payload = smaller.encode(back, num_classes=num_classes)
    again = smaller.decode(payload, num_views=len(logits), num_classes=num_classes)
    expected = back.values.argmax(axis=1) if isinstance(codec, Dense) else logits.argmax(axis=1)
    assert again.ids[:, 0].tolist() == expected.tolist()
    assert smaller.encode(again, num_classes=num_classes) == payload


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
def test_logits_that_are_not_finite_are_refused_with_their_view(codec, bad):
    logits = random_logits(9, 10)
    logits[4, 2] = bad
    with pytest.raises(DataError, match="view 4 has a NaN or infinite logit"):
        codec.encode(logits)


class TestDamage:
    """Malformed bytes raise DataError, never anything else, or decode to something usable."""

    @settings(max_examples=200)
    @given(
        codec=st.sampled_from(list(CODECS.values())),
        payload=st.binary(max_size=120),
        num_views=st.integers(0, 5),
        num_classes=st.integers(2, 12),
    )
    def test_random_bytes(self, codec, payload, num_views, num_classes):
        decodes(codec, payload, num_views, num_classes)

    @settings(max_examples=200)
    @given(codec=st.sampled_from(list(CODECS.values())), content=st.binary(min_size=100, max_size=400), data=st.data())
    def test_random_bytes_of_the_right_length(self, codec, content, data):
        num_classes = data.draw(st.integers(max(2, codec.kept(10)), 20))
        length = len(codec.encode(random_logits(3, num_classes, seed=len(content))))
        decodes(codec, (content * 10)[:length], 3, num_classes)

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_truncations_and_extensions_are_refused(self, codec):
        payload = codec.encode(random_logits(6, 12))
        # Cut at random, one payload in a few dozen happens to end where some labels do: checksums are for that.
        refused = [not decodes(codec, payload[:length], 6, 12) for length in range(len(payload))]
        assert sum(refused) >= len(payload) - 1
        assert not decodes(codec, payload + b"\0", 6, 12)
        assert decodes(codec, payload, 6, 12)

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_every_flipped_bit(self, codec):
        payload = codec.encode(random_logits(6, 12))
        for position in range(len(payload)):
            for bit in range(8):
                damaged = bytearray(payload)
                damaged[position] ^= 1 << bit
                decodes(codec, bytes(damaged), 6, 12)

    @pytest.mark.parametrize("codec", [TopK(2, 0.5), TopK(3), Dense(0.5)], ids=str)
    def test_a_short_payload_cannot_claim_many_labels(self, codec):
        with pytest.raises(DataError):
            codec.decode(codec.encode(random_logits(3, 12)), num_views=2**40, num_classes=12)
