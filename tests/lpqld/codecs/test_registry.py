import pytest

from lpqld.codecs import (
    Dense,
    Hard,
    Logits,
    LowRank,
    TopK,
    codec_class,
    codec_for,
    codec_from_json,
    default_codec_name,
    dense_ids,
    needs_pilot,
)
from lpqld.codecs.registry import CODEC_NAMES
from lpqld.codecs.steps import step_for_bits
from lpqld.errors import ConfigError, DataError
from tests.checks import random_logits
from tests.lpqld.codecs.examples import CODECS

PILOT = Logits(dense_ids(8, 10), random_logits(8, 10))


@pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
def test_json_round_trip(codec):
    assert codec_from_json(codec.to_json()) == codec


@pytest.mark.parametrize("document", [{"name": "zip"}, {"name": "topk"}, {"name": "dense", "k": 3}, {}], ids=str)
def test_unknown_codecs_are_refused(document):
    with pytest.raises(DataError, match="this version of lpqld reads dense, hard, lowrank, topk"):
        codec_from_json(document)


def test_flags_choose_the_codec():
    assert codec_for("dense", k=None, bits=16, num_classes=10, pilot=PILOT) == Dense()
    assert codec_for("topk", k=3, bits=16, num_classes=10, pilot=PILOT) == TopK(3)
    expected = TopK(3, step_for_bits(PILOT, 3, 6))
    assert codec_for("topk", k=3, bits=6, num_classes=10, pilot=PILOT) == expected
    assert codec_for("dense", k=10, bits=6, num_classes=10, pilot=PILOT) == Dense(step_for_bits(PILOT, 10, 6))
    assert codec_for("hard", k=None, bits=16, num_classes=10, pilot=PILOT) == Hard()
    assert codec_for("topk-tail", k=3, bits=16, num_classes=10, pilot=PILOT) == TopK(3, absent="tail")
    assert codec_for("topk-share", k=3, bits=16, num_classes=10, pilot=PILOT).temperature == 4.0
    assert codec_for("lowrank", k=4, bits=6, num_classes=10, pilot=PILOT).rank == 4


@pytest.mark.parametrize(
    ("name", "k", "bits"),
    [("zip", 3, 16), ("dense", 3, 16), ("topk", 0, 16), ("topk", 11, 16), ("topk", 3, 1), ("topk", 3, 17)],
    ids=str,
)
def test_flags_out_of_range_are_refused(name, k, bits):
    with pytest.raises(ConfigError):
        codec_for(name, k=k, bits=bits, num_classes=10, pilot=PILOT)


@pytest.mark.parametrize("document", [None, [], {"name": "topk", "k": 0}, {"name": "dense", "step": -1}], ids=str)
def test_what_is_no_codec_is_the_datas_fault(document):
    with pytest.raises(DataError, match="codec"):
        codec_from_json(document)


def test_the_names_of_the_command_line_are_these():
    assert CODEC_NAMES == ("dense", "hard", "lowrank", "topk", "topk-min", "topk-share", "topk-tail")
    assert [codec_class(name) for name in CODEC_NAMES] == [Dense, Hard, LowRank, TopK, TopK, TopK, TopK]
    with pytest.raises(ConfigError, match="unknown codec 'zip'; choose one of dense, hard"):
        codec_class("zip")


def test_k_alone_asks_for_the_largest_and_labels_of_the_largest_stay_such():
    assert [default_codec_name(k) for k in (None, 3)] == ["dense", "topk"]
    assert [default_codec_name(None, source) for source in (Dense(), Hard(), TopK(3))] == ["dense", "dense", "topk"]
    assert TopK(2, 0.5).like(TopK(3, 0.25, "share", 4.0)) == TopK(2, 0.5, "share", 4.0)
    assert TopK(2, 0.5).like(Dense()) == TopK(2, 0.5)
    assert Dense(0.5).like(TopK(3, 0.25, "tail")) == Dense(0.5)


def test_a_pilot_is_needed_for_steps_and_for_directions():
    assert [needs_pilot(name, 16) for name in CODEC_NAMES] == [name == "lowrank" for name in CODEC_NAMES]
    assert all(needs_pilot(name, 4) for name in CODEC_NAMES)
