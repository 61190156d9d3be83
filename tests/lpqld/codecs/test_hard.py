import numpy as np
import pytest

from lpqld.codecs import Hard
from lpqld.errors import DataError
from tests.checks import random_logits


def test_a_label_is_the_images_class():
    logits, classes = random_logits(5, 4), np.array([[3], [0], [1], [1], [2]], dtype=np.int32)
    assert Hard().encode(logits) == b""
    assert Hard().sizes(logits).tolist() == [0] * 6
    back = Hard().decode(b"", num_views=5, num_classes=4, hints=classes)
    assert back.ids.tolist() == classes.tolist()
    assert back.values.tolist() == [[0]] * 5


def test_without_the_images_there_are_none():
    with pytest.raises(DataError, match="follow from the images"):
        Hard().decode(b"", num_views=5, num_classes=4)
    with pytest.raises(DataError, match="has 1 bytes, expected 0"):
        Hard().decode(b"0", num_views=1, num_classes=4, hints=np.zeros((1, 1), dtype=np.int32))


def test_it_says_that_it_holds_nothing_of_the_teacher():
    assert not Hard().holds_logits
    assert (Hard().value_step, Hard().stores_half) == (None, False)
    assert Hard().with_step(0.5) == Hard()
