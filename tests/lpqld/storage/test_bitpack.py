import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.storage.bitpack import pack, packed_size, unpack


@given(st.integers(0, 63), st.data())
def test_numbers_come_back_in_the_bits_that_they_were_given(bits, data):
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    packed = pack(np.array(values, dtype=np.int64), bits)
    assert len(packed) == packed_size(len(values), bits)
    text = "".join(f"{value:0{bits}b}" for value in values) if bits else ""
    text = text.ljust(8 * len(packed), "0")  # the highest bit first, zeros at the end
    assert "".join(f"{byte:08b}" for byte in packed) == text
    assert unpack(packed, len(values), bits).tolist() == values


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_any_type_and_shape_of_numbers(dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    assert unpack(pack(values, 4), 12, 4).tolist() == list(range(12))
