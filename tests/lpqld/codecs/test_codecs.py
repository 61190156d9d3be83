from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs.base import Codec, Logits, dense_ids
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.largest import largest
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.registry import codec_for, codec_from_json
from lpqld.codecs.topk import TopK, step_for_bits
from lpqld.errors import ConfigError, DataError
from tests.checks import CODEC_CONTRACT, check_valid, decoded, equal_logits, plain_choice, random_logits

CODECS: dict[str, Codec] = {
    "dense": Dense(),
    "top 1 fp16": TopK(1),
    "top 2 fp16": TopK(2),
    "top 1 steps": TopK(1, 0.25),
    "top 2 coarse": TopK(2, 3.0),
    "top 2 steps": TopK(2, 0.25),
    "top 2 fine": TopK(2, 0.01),
    "top 10 fp16": TopK(10),
    "top 10 coarse": TopK(10, 2.5),
    "top 10 steps": TopK(10, 0.0625),
    "dense steps": Dense(0.25),
    "top 2 minimum": TopK(2, 0.25, "minimum"),
    "top 2 share": TopK(2, 0.25, "share", 4.0),
    "top 3 tail": TopK(3, 0.25, "tail"),
    "top 3 tail fp16": TopK(3, None, "tail"),
}


def with_outlier() -> np.ndarray:
    logits = random_logits(20, 10, seed=3)
    logits[7, 4], logits[8, 0], logits[9] = 60_000, -50_000, 0
    return logits


INPUTS: dict[str, np.ndarray] = {
    "normal": random_logits(64, 10),
    "many classes": random_logits(9, 1000, seed=1),
    "two classes": random_logits(30, 2, seed=2),
    "one view": random_logits(1, 10, seed=4),
    "one view of two classes": np.array([[1.0, 1.0]], dtype=np.float32),
    "constant": np.full((5, 12), 3.3, dtype=np.float32),
    "zeros": np.zeros((3, 10), dtype=np.float32),
    "ties": np.random.default_rng(5).integers(-2, 3, (200, 10)).astype(np.float32),
    "near ties": np.random.default_rng(6).integers(-2, 3, (200, 10)) + random_logits(200, 10, 7, scale=0.01),
    "all negative": -np.abs(random_logits(20, 16, seed=8)) - 100,
    "outliers": with_outlier(),
    "tiny": random_logits(20, 10, seed=9, scale=1e-6),
    "float64": random_logits(20, 10, seed=10).astype(np.float64),
}
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


@st.composite
def codecs_with_logits(draw: st.DrawFn) -> tuple[Codec, np.ndarray]:
    num_classes = draw(st.integers(2, 20))
    row = st.lists(
        st.one_of(st.integers(-3, 3).map(float), st.floats(-500, 500, width=32)),
        min_size=num_classes,
        max_size=num_classes,
    )
    logits = np.array(draw(st.lists(row, min_size=1, max_size=8)), dtype=np.float32)
    step = draw(st.one_of(st.none(), st.floats(1e-3, 50)))
    absent = draw(st.sampled_from([("none", None), ("minimum", None), ("share", 2.0), ("tail", None)]))
    top = st.builds(TopK, st.integers(1, num_classes), st.just(step), *map(st.just, absent))
    return draw(st.one_of(st.just(Dense(step)), top)), logits


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


class TestTopK:
    def test_classes_that_share_a_step_keep_the_teachers_argmax_first(self):
        logits = np.array([[1.0, 5.00, 5.05, 0.0], [5.05, 5.00, 1.0, 0.0]], dtype=np.float32)
        back = decoded(TopK(3, 1.0), logits)
        assert back.ids.tolist() == [[2, 1, 0], [0, 1, 2]]
        assert back.values.tolist() == [[0, 0, -4], [0, 0, -4]]

    @pytest.mark.parametrize("outlier", [1e6, -1e6, 16e6], ids=str)
    def test_outliers_are_never_clipped(self, outlier):
        logits = random_logits(50, 10)
        logits[13, 3] = outlier
        back = decoded(TopK(10, 1.0), logits)
        error = np.take_along_axis(logits, back.ids.astype(np.int64), axis=1).astype(np.float64) - back.values
        assert (np.ptp(error, axis=1) <= 1).all()

    def test_a_logit_beyond_the_widest_step_count_is_refused(self):
        with pytest.raises(DataError, match=r"view 1 has logits from 0 to 1e.08, too far apart .*Use a larger step"):
            TopK(2, 0.001).encode(np.array([[1.0, 0.0], [1e8, 0.0]]))
        with pytest.raises(DataError, match="too far apart"):
            TopK(2, 1e37).encode(np.array([[3e38, -3e38]]))

    @pytest.mark.parametrize("step", [None, 0.5], ids=["fp16", "steps"])
    def test_all_classes_take_no_ids(self, step):
        logits = np.repeat(random_logits(1, 16), 200, axis=0)
        assert len(TopK(16, step).encode(logits)) < len(TopK(15, step).encode(logits)) + 200

    def test_labels_like_those_before_take_few_bytes(self):
        logits = random_logits(40, 200, seed=1)[np.random.default_rng(0).integers(0, 40, 2000)]
        codec = TopK(10, 0.25)
        sizes = codec.sizes(logits)
        assert sizes[2000] - sizes[1000] < 0.75 * sizes[200] * 5

    def test_true_hints_save_bytes(self):
        logits = random_logits(500, 50, seed=2)
        hints = np.argsort(-logits, axis=1)[:, :2].astype(np.int32)
        assert len(TopK(3, 0.25).encode(logits, hints=hints)) < 0.6 * len(TopK(3, 0.25).encode(logits))

    @pytest.mark.parametrize(
        "hints", [np.zeros((3, 3)), np.zeros((2, 1)), np.zeros(3), np.full((3, 1), 4), np.full((3, 1), -2)], ids=str
    )
    def test_hints_that_cannot_be_are_refused(self, hints):
        with pytest.raises(ConfigError, match="hints must be"):
            TopK(2, 0.5).encode(random_logits(3, 4), hints=hints.astype(np.int32))

    @pytest.mark.parametrize("num_classes", [1, 2**24 + 1])
    def test_a_number_of_classes_beyond_the_limits_is_refused(self, num_classes):
        with pytest.raises(DataError, match="2 to 16777216 classes"):
            TopK(1, 0.5).decode(b"0", num_views=1, num_classes=num_classes)

    @pytest.mark.parametrize("k", [1, 5, 100_000])
    def test_a_hundred_thousand_classes(self, k):
        logits = random_logits(3, 100_000)
        back = decoded(TopK(k, 0.25), logits)
        assert back.ids[:, 0].tolist() == logits.argmax(axis=1).tolist()
        assert np.sort(back.ids, axis=1).tolist() == largest(logits, k).tolist()

    @pytest.mark.parametrize("codec", [TopK(5), TopK(5, 0.25)], ids=["fp16", "steps"])
    def test_more_classes_than_there_are_is_an_error_with_a_remedy(self, codec):
        with pytest.raises(ConfigError, match="k=5 exceeds the 4 classes of these labels; choose a smaller k"):
            codec.encode(random_logits(3, 4))
        with pytest.raises(DataError, match="k=5 exceeds the 4 classes"):
            codec.decode(b"", num_views=3, num_classes=4)
        sparse = Logits(np.zeros((1, 4), dtype=np.int32) + np.arange(4, dtype=np.int32), np.zeros((1, 4), np.float32))
        with pytest.raises(ConfigError, match="k=5 exceeds the 4 classes"):
            codec.encode(sparse, num_classes=100)

    def test_sparse_logits_need_the_number_of_classes(self):
        with pytest.raises(ConfigError, match="num_classes"):
            TopK(1, 0.5).encode(decoded(TopK(2), random_logits(3, 4)))

    @pytest.mark.parametrize(
        ("k", "step"),
        [(0, None), (-1, 0.5), (1, 0.0), (1, -1.0), (1, float("nan")), (1, float("inf"))],
        ids=str,
    )
    def test_a_configuration_out_of_range_is_refused(self, k, step):
        with pytest.raises(ConfigError):
            TopK(k, step)

    @settings(max_examples=100)
    @given(codecs_with_logits(), st.data())
    def test_the_choice_of_the_largest_is_that_of_a_plain_sort(self, case, data):
        logits = case[1]
        k = data.draw(st.integers(1, logits.shape[1]))
        assert largest(logits, k).tolist() == np.sort(plain_choice(logits, k), axis=1).tolist()


class TestRefusal:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_logits_that_are_not_finite_are_refused_with_their_view(self, codec, bad):
        logits = random_logits(9, 10)
        logits[4, 2] = bad
        with pytest.raises(DataError, match="view 4 has a NaN or infinite logit"):
            codec.encode(logits)

    @pytest.mark.parametrize("codec", [Dense(), TopK(3), TopK(10)], ids=["dense", "top 3", "top 10"])
    @pytest.mark.parametrize("huge", [65_520.0, 1e9], ids=str)
    @pytest.mark.filterwarnings("error")
    def test_logits_beyond_fp16_are_refused_with_their_view(self, codec, huge):
        logits = random_logits(9, 10)
        logits[4, 2] = huge
        with pytest.raises(
            DataError, match=r"view 4 .*has a logit beyond fp16's largest, 65504; use a codec with a step"
        ):
            codec.encode(logits)

    def test_the_largest_fp16_value_is_kept(self):
        logits = np.array([[65_504.0, -65_504.0]], dtype=np.float32)
        for codec in (Dense(), TopK(2)):
            assert decoded(codec, logits).values.tolist() == [[65_504.0, -65_504.0]]

    def test_dense_cannot_bring_dropped_classes_back(self):
        with pytest.raises(ConfigError, match="keep 3 classes a view, not all 10; use a top-k codec"):
            Dense().encode(decoded(TopK(3), random_logits(4, 10)), num_classes=10)

    def test_dense_takes_sparse_labels_that_hold_every_class(self):
        logits = random_logits(4, 10).astype(np.float16).astype(np.float32)
        assert Dense().encode(decoded(TopK(10), logits), num_classes=10) == Dense().encode(logits)


class TestDamage:
    """Malformed bytes raise DataError, never anything else, or decode to something usable."""

    @staticmethod
    def attempt(codec: Codec, payload: bytes, num_views: int, num_classes: int) -> bool:
        try:
            back = codec.decode(payload, num_views=num_views, num_classes=num_classes)
        except DataError:
            return False
        check_valid(back, num_classes)
        return True

    @settings(max_examples=200)
    @given(
        codec=st.sampled_from(list(CODECS.values())),
        payload=st.binary(max_size=120),
        num_views=st.integers(0, 5),
        num_classes=st.integers(2, 12),
    )
    def test_random_bytes(self, codec, payload, num_views, num_classes):
        self.attempt(codec, payload, num_views, num_classes)

    @settings(max_examples=200)
    @given(codec=st.sampled_from(list(CODECS.values())), content=st.binary(min_size=100, max_size=400), data=st.data())
    def test_random_bytes_of_the_right_length(self, codec, content, data):
        num_classes = data.draw(st.integers(max(2, codec.kept(10)), 20))
        length = len(codec.encode(random_logits(3, num_classes, seed=len(content))))
        self.attempt(codec, (content * 10)[:length], 3, num_classes)

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_truncations_and_extensions_are_refused(self, codec):
        payload = codec.encode(random_logits(6, 12))
        # Cut at random, one payload in a few dozen happens to end where some labels do: checksums are for that.
        refused = [not self.attempt(codec, payload[:length], 6, 12) for length in range(len(payload))]
        assert sum(refused) >= len(payload) - 1
        assert not self.attempt(codec, payload + b"\0", 6, 12)
        assert self.attempt(codec, payload, 6, 12)

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    @pytest.mark.filterwarnings("error")
    def test_every_flipped_bit(self, codec):
        payload = codec.encode(random_logits(6, 12))
        for position in range(len(payload)):
            for bit in range(8):
                damaged = bytearray(payload)
                damaged[position] ^= 1 << bit
                self.attempt(codec, bytes(damaged), 6, 12)

    @pytest.mark.parametrize("codec", [TopK(2, 0.5), TopK(3), Dense(0.5)], ids=str)
    def test_a_short_payload_cannot_claim_many_labels(self, codec):
        with pytest.raises(DataError):
            codec.decode(codec.encode(random_logits(3, 12)), num_views=2**40, num_classes=12)


class TestStepForBits:
    @pytest.mark.parametrize("bits", range(2, 16))
    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_the_pilots_values_fit_the_bits(self, k, bits):
        logits = random_logits(500, 10, seed=bits)
        step = step_for_bits(Logits(dense_ids(500, 10), logits), k, bits)
        back = decoded(TopK(k, step), logits)
        widest = int(np.rint((back.values.max(axis=1) - back.values.min(axis=1)).astype(np.float64) / step).max())
        assert widest <= 2**bits - 1
        assert k == 1 or widest >= (2**bits - 1) * 0.99 - 1

    def test_sixteen_bits_are_fp16(self):
        assert step_for_bits(Logits(dense_ids(2, 4), random_logits(2, 4)), 2, 16) is None

    def test_the_span_is_that_of_the_kept_values(self):
        pilot = Logits(dense_ids(2, 4), np.array([[10.0, 7.0, -90.0, 4.0], [1.0, 1.0, 0.0, 0.0]], dtype=np.float32))
        assert step_for_bits(pilot, 3, 2) == 2.0
        assert step_for_bits(pilot, 2, 2) == 1.0

    @pytest.mark.parametrize("bits", [1, 17, 0, -4])
    def test_bits_out_of_range_are_refused(self, bits):
        with pytest.raises(ConfigError, match="bits must be 2 to 16"):
            step_for_bits(Logits(dense_ids(2, 4), random_logits(2, 4)), 2, bits)


class TestNames:
    PILOT = Logits(dense_ids(8, 10), random_logits(8, 10))

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_json_round_trip(self, codec):
        assert codec_from_json(codec.to_json()) == codec

    @pytest.mark.parametrize("document", [{"name": "zip"}, {"name": "topk"}, {"name": "dense", "k": 3}, {}], ids=str)
    def test_unknown_codecs_are_refused(self, document):
        with pytest.raises(DataError, match="this version of lpqld reads dense, hard, lowrank, topk"):
            codec_from_json(document)

    def test_flags_choose_the_codec(self):
        assert codec_for("dense", k=None, bits=16, num_classes=10, pilot=self.PILOT) == Dense()
        assert codec_for("topk", k=3, bits=16, num_classes=10, pilot=self.PILOT) == TopK(3)
        expected = TopK(3, step_for_bits(self.PILOT, 3, 6))
        assert codec_for("topk", k=3, bits=6, num_classes=10, pilot=self.PILOT) == expected
        assert codec_for("dense", k=10, bits=6, num_classes=10, pilot=self.PILOT) == Dense(
            step_for_bits(self.PILOT, 10, 6)
        )
        assert codec_for("hard", k=None, bits=16, num_classes=10, pilot=self.PILOT) == Hard()
        assert codec_for("topk-tail", k=3, bits=16, num_classes=10, pilot=self.PILOT) == TopK(3, absent="tail")
        assert codec_for("topk-share", k=3, bits=16, num_classes=10, pilot=self.PILOT).temperature == 4.0
        assert codec_for("lowrank", k=4, bits=6, num_classes=10, pilot=self.PILOT).rank == 4

    @pytest.mark.parametrize(
        ("name", "k", "bits"),
        [("zip", 3, 16), ("dense", 3, 16), ("topk", 0, 16), ("topk", 11, 16), ("topk", 3, 1), ("topk", 3, 17)],
        ids=str,
    )
    def test_flags_out_of_range_are_refused(self, name, k, bits):
        with pytest.raises(ConfigError):
            codec_for(name, k=k, bits=bits, num_classes=10, pilot=self.PILOT)


class TestHard:
    def test_a_label_is_the_images_class(self):
        logits, classes = random_logits(5, 4), np.array([[3], [0], [1], [1], [2]], dtype=np.int32)
        assert Hard().encode(logits) == b""
        assert Hard().sizes(logits).tolist() == [0] * 6
        back = Hard().decode(b"", num_views=5, num_classes=4, hints=classes)
        assert back.ids.tolist() == classes.tolist()
        assert back.values.tolist() == [[0]] * 5

    def test_without_the_images_there_are_none(self):
        with pytest.raises(DataError, match="follow from the images"):
            Hard().decode(b"", num_views=5, num_classes=4)
        with pytest.raises(DataError, match="has 1 bytes, expected 0"):
            Hard().decode(b"0", num_views=1, num_classes=4, hints=np.zeros((1, 1), dtype=np.int32))


class TestAbsent:
    """What the other classes have, against float64 formulas."""

    LOGITS = random_logits(40, 30, seed=11)

    @staticmethod
    def others(logits: np.ndarray, back: Logits) -> np.ndarray:
        """The absent classes' logits, shifted as the decoded ones are, [N, C - k]."""
        kept = np.take_along_axis(logits, back.ids.astype(np.int64), axis=1).astype(np.float64)
        mask = np.ones(logits.shape, dtype=bool)
        np.put_along_axis(mask, back.ids.astype(np.int64), False, axis=1)
        shift = (kept - back.values).mean(axis=1, keepdims=True)
        return logits[mask].reshape(len(logits), -1).astype(np.float64) - shift

    @pytest.mark.parametrize("step", [None, 1e-4], ids=["fp16", "steps"])
    def test_the_minimum_is_the_smallest_logit(self, step):
        back = decoded(TopK(5, step, "minimum"), self.LOGITS)
        assert back.absent[:, 1].tolist() == [0] * 40
        tolerance = 1 / 32 + 1e-2 if step is None else 1e-3
        assert np.allclose(back.absent[:, 0], self.others(self.LOGITS, back).min(axis=1), atol=tolerance)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
    def test_a_share_keeps_the_mass_at_its_temperature(self, temperature):
        back = decoded(TopK(5, 1e-4, "share", temperature), self.LOGITS)
        expected = np.exp(self.others(self.LOGITS, back) / temperature).sum(axis=1)
        assert np.allclose(25 * np.exp(back.absent[:, 0] / temperature), expected, rtol=2e-3)
        assert back.absent[:, 1].tolist() == [0] * 40

    def test_a_tail_keeps_the_mass_at_1_and_20_and_nearly_in_between(self):
        logits = self.LOGITS / 4
        back = decoded(TopK(5, 1e-4, "tail"), logits)
        for temperature, tolerance in ((1.0, 2e-3), (20.0, 2e-3), (7.0, 0.02), (2.0, 0.05)):
            level = back.absent[:, 0] + back.absent[:, 1] / temperature
            expected = np.exp(self.others(logits, back) / temperature).sum(axis=1)
            assert np.allclose(25 * np.exp(level / temperature), expected, rtol=tolerance)

    def test_a_tail_of_fewer_classes_follows_from_one_of_more(self):
        larger = decoded(TopK(12, 1e-4, "tail"), self.LOGITS)
        codec = TopK(5, 1e-4, "tail")
        again = codec.decode(codec.encode(larger, num_classes=30), num_views=40, num_classes=30)
        assert np.allclose(again.absent, decoded(codec, self.LOGITS).absent, atol=2e-3)

    @pytest.mark.parametrize("absent", ["minimum", "tail"])
    def test_labels_that_say_nothing_of_absent_classes_cannot_be_given_any(self, absent):
        with pytest.raises(ConfigError, match="keep 6 of 30 classes and nothing of the others"):
            TopK(5, 0.5, absent).encode(decoded(TopK(6), self.LOGITS), num_classes=30)

    def test_options_that_do_not_go_together_are_refused(self):
        for options in ({"absent": "mean"}, {"absent": "share"}, {"absent": "tail", "temperature": 4.0}):
            with pytest.raises(ConfigError):
                TopK(2, 0.5, **options)
        with pytest.raises(ConfigError, match="temperature must be"):
            TopK(2, 0.5, "share", -1.0)


class TestLowRank:
    PILOT = random_logits(300, 6, seed=1) @ random_logits(6, 20, seed=2) / 8

    def test_labels_of_low_rank_come_back_within_their_steps(self):
        codec = LowRank.fit(self.PILOT, rank=6, step=0.01)
        back = decoded(codec, self.PILOT)
        centred = self.PILOT - self.PILOT.mean(axis=1, keepdims=True)
        assert np.abs(back.values - back.values.mean(axis=1, keepdims=True) - centred).max() < 0.3
        assert back.ids.tolist() == dense_ids(300, 20).tolist()

    def test_decoding_is_the_formula(self):
        codec = LowRank.fit(self.PILOT, rank=3, step=0.5)
        basis, mean = codec._basis, codec._mean
        centred = self.PILOT.astype(np.float64) - self.PILOT.astype(np.float64).mean(axis=1, keepdims=True) - mean
        expected = mean + np.rint(centred @ basis.T / 0.5) * 0.5 @ basis
        assert np.allclose(decoded(codec, self.PILOT).values, expected, atol=1e-5)

    def test_more_directions_and_smaller_steps_are_closer(self):
        def error(rank: int, step: float) -> float:
            back = decoded(LowRank.fit(self.PILOT, rank=rank, step=step), self.PILOT).values
            return float((back - self.PILOT).std(axis=1).mean())

        assert error(6, 0.05) < error(3, 0.05) < error(1, 0.05)
        assert error(6, 0.05) < error(6, 1.0)

    def test_sizes_are_exact_and_bounded(self):
        codec = LowRank.fit(self.PILOT, rank=4, bits=5)
        sizes = codec.sizes(self.PILOT)
        for count in (0, 1, 77, 300):
            assert len(codec.encode(self.PILOT[:count])) == sizes[count] <= codec.max_bytes(count, 20)

    def test_json_round_trip(self):
        codec = LowRank.fit(self.PILOT, rank=4, bits=5)
        assert codec_from_json(codec.to_json()) == codec

    def test_what_does_not_fit_is_refused(self):
        for rank, bits in ((0, 8), (20, 8), (3, 1), (3, 17)):
            with pytest.raises(ConfigError):
                LowRank.fit(self.PILOT, rank=rank, bits=bits)
        codec = LowRank.fit(self.PILOT, rank=4, bits=5)
        with pytest.raises(ConfigError, match="a basis of 20 classes cannot encode labels of 19"):
            codec.encode(random_logits(2, 19))
        with pytest.raises(ConfigError, match="needs them all"):
            codec.encode(decoded(TopK(3), self.PILOT), num_classes=20)
        with pytest.raises(DataError, match="cannot decode labels of 19"):
            codec.decode(b"0", num_views=1, num_classes=19)
        for options in ({"basis": codec.basis[:-5]}, {"mean": "\n"}, {"scales": ""}, {"step": 0.0}, {"basis": 3}):
            with pytest.raises(ConfigError):
                codec_from_json({**codec.to_json(), **options})

    @pytest.mark.filterwarnings("error")
    def test_damage_is_refused_or_gives_finite_labels(self):
        codec = LowRank.fit(self.PILOT, rank=4, bits=5)
        payload = codec.encode(self.PILOT[:6])
        refused = [not TestDamage.attempt(codec, payload[:length], 6, 20) for length in range(len(payload))]
        assert sum(refused) >= len(payload) - 1
        for position in range(len(payload) * 8):
            damaged = bytearray(payload)
            damaged[position // 8] ^= 1 << position % 8
            TestDamage.attempt(codec, bytes(damaged), 6, 20)


def test_a_long_payload_is_decoded_in_parts_as_it_was_encoded(monkeypatch):
    logits = random_logits(300, 40)
    codec = TopK(7, 0.25)
    payload = codec.encode(logits)
    whole = decoded(codec, logits)
    monkeypatch.setattr("lpqld.codecs.topk._CHUNK_VALUES", 100)
    assert codec.encode(logits) == payload
    assert equal_logits(decoded(codec, logits), whole)
