import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs.largest import largest
from tests.checks import plain_choice
from tests.lpqld.codecs.examples import codecs_with_logits


@settings(max_examples=100)
@given(codecs_with_logits(), st.data())
def test_the_choice_of_the_largest_is_that_of_a_plain_sort(case, data):
    logits = case[1]
    k = data.draw(st.integers(1, logits.shape[1]))
    assert largest(logits, k).tolist() == np.sort(plain_choice(logits, k), axis=1).tolist()
