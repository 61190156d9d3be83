import numpy as np
import pytest

from lpqld.codecs import Dense, Logits, TopK, dense_ids
from lpqld.codecs.label_block import LabelBlock
from lpqld.errors import DataError
from tests.checks import decoded, random_logits


@pytest.mark.parametrize("codec", [Dense(), TopK(3), TopK(10)], ids=["dense", "top 3", "top 10"])
@pytest.mark.parametrize("huge", [65_520.0, 1e9], ids=str)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_logits_beyond_fp16_are_refused_with_their_view(codec, huge):
    logits = random_logits(9, 10)
    logits[4, 2] = huge
    with pytest.raises(DataError, match=r"view 4 .*has a logit beyond fp16's largest, 65504; use a codec with a step"):
        codec.encode(logits)


def test_the_largest_fp16_value_is_kept():
    logits = np.array([[65_504.0, -65_504.0]], dtype=np.float32)
    for codec in (Dense(), TopK(2)):
        assert decoded(codec, logits).values.tolist() == [[65_504.0, -65_504.0]]


@pytest.mark.parametrize("num_classes", [1, 2**24 + 1])
def test_a_number_of_classes_that_no_label_set_has_is_refused(num_classes):
    with pytest.raises(DataError, match="2 to 16777216 classes"):
        LabelBlock.of(random_logits(3, 4), num_classes)


def test_a_second_hint_that_repeats_the_first_is_none():
    hints = np.array([[1, 1], [2, 0], [-1, -1]], dtype=np.int32)
    assert LabelBlock.of(random_logits(3, 4), hints=hints).hints.tolist() == [[1, -1], [2, 0], [-1, -1]]
    assert hints[0].tolist() == [1, 1]


def test_parts_of_a_block_have_their_own_labels_and_hints():
    logits, hints = random_logits(9, 4), np.arange(9, dtype=np.int32)[:, None] % 4
    for given in (logits, Logits(dense_ids(9, 4), logits)):
        part = LabelBlock.of(given, 4, hints).take(slice(3, 5))
        assert len(part) == 2
        assert np.array_equal(part.values, logits[3:5])
        assert part.hints.tolist() == [[3], [0]]
        assert np.array_equal(part.every_class(""), logits[3:5])


def test_ids_that_say_only_that_all_classes_are_there_are_left_out():
    logits = random_logits(3, 4)
    assert LabelBlock.of(Logits(dense_ids(3, 4), logits), 4).without_ids().logits is logits
    sparse = Logits(dense_ids(3, 4), logits)
    assert LabelBlock.of(sparse, 5).without_ids().logits is sparse
