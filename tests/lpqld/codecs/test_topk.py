import numpy as np
import pytest

from lpqld.codecs import Logits, TopK
from lpqld.codecs.largest import largest
from lpqld.errors import ConfigError, DataError
from tests.checks import decoded, equal_logits, random_logits


def test_classes_that_share_a_step_keep_the_teachers_argmax_first():
    logits = np.array([[1.0, 5.00, 5.05, 0.0], [5.05, 5.00, 1.0, 0.0]], dtype=np.float32)
    back = decoded(TopK(3, 1.0), logits)
    assert back.ids.tolist() == [[2, 1, 0], [0, 1, 2]]
    assert back.values.tolist() == [[0, 0, -4], [0, 0, -4]]


@pytest.mark.parametrize("outlier", [1e6, -1e6, 16e6], ids=str)
def test_outliers_are_never_clipped(outlier):
    logits = random_logits(50, 10)
    logits[13, 3] = outlier
    back = decoded(TopK(10, 1.0), logits)
    error = np.take_along_axis(logits, back.ids.astype(np.int64), axis=1).astype(np.float64) - back.values
    assert (np.ptp(error, axis=1) <= 1).all()


def test_a_logit_beyond_the_widest_step_count_is_refused():
    with pytest.raises(DataError, match=r"view 1 has logits from 0 to 1e.08, too far apart .*Use a larger step"):
        TopK(2, 0.001).encode(np.array([[1.0, 0.0], [1e8, 0.0]]))
    with pytest.raises(DataError, match="too far apart"):
        TopK(2, 1e37).encode(np.array([[3e38, -3e38]]))


@pytest.mark.parametrize("step", [None, 0.5], ids=["fp16", "steps"])
def test_all_classes_take_no_ids(step):
    logits = np.repeat(random_logits(1, 16), 200, axis=0)
    assert len(TopK(16, step).encode(logits)) < len(TopK(15, step).encode(logits)) + 200


def test_labels_like_those_before_take_few_bytes():
    logits = random_logits(40, 200, seed=1)[np.random.default_rng(0).integers(0, 40, 2000)]
    codec = TopK(10, 0.25)
    sizes = codec.sizes(logits)
    assert sizes[2000] - sizes[1000] < 0.75 * sizes[200] * 5


def test_true_hints_save_bytes():
    logits = random_logits(500, 50, seed=2)
    hints = np.argsort(-logits, axis=1)[:, :2].astype(np.int32)
    assert len(TopK(3, 0.25).encode(logits, hints=hints)) < 0.6 * len(TopK(3, 0.25).encode(logits))


@pytest.mark.parametrize(
    "hints", [np.zeros((3, 3)), np.zeros((2, 1)), np.zeros(3), np.full((3, 1), 4), np.full((3, 1), -2)], ids=str
)
def test_hints_that_cannot_be_are_refused(hints):
    with pytest.raises(ConfigError, match="hints must be"):
        TopK(2, 0.5).encode(random_logits(3, 4), hints=hints.astype(np.int32))


@pytest.mark.parametrize("num_classes", [1, 2**24 + 1])
def test_a_number_of_classes_beyond_the_limits_is_refused(num_classes):
    with pytest.raises(DataError, match="2 to 16777216 classes"):
        TopK(1, 0.5).decode(b"0", num_views=1, num_classes=num_classes)


@pytest.mark.parametrize("k", [1, 5, 100_000])
def test_a_hundred_thousand_classes(k):
    logits = random_logits(3, 100_000)
    back = decoded(TopK(k, 0.25), logits)
    assert back.ids[:, 0].tolist() == logits.argmax(axis=1).tolist()
    assert np.sort(back.ids, axis=1).tolist() == largest(logits, k).tolist()


@pytest.mark.parametrize("codec", [TopK(5), TopK(5, 0.25)], ids=["fp16", "steps"])
def test_more_classes_than_there_are_is_an_error_with_a_remedy(codec):
    with pytest.raises(ConfigError, match="k=5 exceeds the 4 classes of these labels; choose a smaller k"):
        codec.encode(random_logits(3, 4))
    with pytest.raises(DataError, match="k=5 exceeds the 4 classes"):
        codec.decode(b"", num_views=3, num_classes=4)
    sparse = Logits(np.zeros((1, 4), dtype=np.int32) + np.arange(4, dtype=np.int32), np.zeros((1, 4), np.float32))
    with pytest.raises(ConfigError, match="k=5 exceeds the 4 classes"):
        codec.encode(sparse, num_classes=100)


def test_sparse_logits_need_the_number_of_classes():
    with pytest.raises(ConfigError, match="num_classes"):
        TopK(1, 0.5).encode(decoded(TopK(2), random_logits(3, 4)))


@pytest.mark.parametrize(
    ("k", "step"),
    [(0, None), (-1, 0.5), (1, 0.0), (1, -1.0), (1, float("nan")), (1, float("inf"))],
    ids=str,
)
def test_a_configuration_out_of_range_is_refused(k, step):
    with pytest.raises(ConfigError):
        TopK(k, step)


def test_a_long_payload_is_decoded_in_parts_as_it_was_encoded(monkeypatch):
    logits = random_logits(300, 40)
    codec = TopK(7, 0.25)
    payload = codec.encode(logits)
    whole = decoded(codec, logits)
    monkeypatch.setattr("lpqld.codecs.topk._CHUNK_VALUES", 100)
    assert codec.encode(logits) == payload
    assert equal_logits(decoded(codec, logits), whole)
