import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.errors import DataError
from lpqld.storage.strict_json import Fields, Packed, is_plain


class TestTexts:
    def test_they_come_back(self):
        assert Fields({"x": ["a", "b c"]}).texts("x") == ("a", "b c")

    @pytest.mark.parametrize("value", [None, [], "ab", ["a", ""], ["a", 1], ["a\n"], [["a"]]], ids=str)
    def test_anything_else_is_refused(self, value):
        with pytest.raises(DataError, match="x must be a list of texts"):
            Fields({"x": value}).texts("x")


class TestPacked:
    @given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50).filter(any))
    def test_numbers_come_back_in_as_few_bits_as_the_largest_needs(self, values):
        packed = Packed.of(np.array(values, dtype=np.int64))
        assert packed.bits == max(values).bit_length()
        assert len(packed.content) == -(-packed.bits * len(values) // 8)
        assert packed.unpack(len(values)).tolist() == values
        assert Fields({"x": packed.to_json()}).packed("x", len(values)) == packed

    def test_the_highest_bit_comes_first(self):
        assert Packed.of(np.array([5, 1, 6])).to_json() == {"bits": 3, "packed": "pwA="}  # 101 001 11 | 0

    @pytest.mark.parametrize(
        "document",
        [
            None,
            {},
            {"bits": 3},
            {"bits": 3, "packed": "pwA=", "more": 1},
            {"bits": 0, "packed": "pwA="},
            {"bits": 33, "packed": "pwA="},
            {"bits": 3.0, "packed": "pwA="},
            {"bits": 3, "packed": "pwA"},
            {"bits": 3, "packed": "pw=="},
            {"bits": 3, "packed": "pwAA"},
            {"bits": 3, "packed": "pwB/"},
            {"bits": 3, "packed": "pw E="},
            {"bits": 3, "packed": "é"},
            {"bits": 3, "packed": 3},
            {"bits": 4, "packed": "ERA="},
            {"bits": 3, "packed": "pwE="},
            {"bits": 3, "packed": "AAA="},
        ],
        ids=str,
    )
    def test_anything_else_is_refused(self, document):
        with pytest.raises(DataError, match="x"):
            Fields({"x": document}).packed("x", 3)


class TestFields:
    @pytest.mark.parametrize(
        ("kind", "good", "bad"),
        [
            ("integer", [0, 3], [-1, 4, 1.0, True, "1", None, [], 10**4000]),
            ("number", [0, -1.5, 1e300], [float("inf"), float("nan"), True, "1", None, 10**400]),
            ("flag", [True, False], [0, 1, "true", None]),
            ("text", ["a", "é", "x" * 4096], ["", "x" * 4097, "a\n", "\x1b[0m", "\ud800", 3, None]),
            ("digest", ["0" * 64], ["0" * 63, "A" * 64, "0" * 65, "0" * 63 + "\n", 0, None]),
            ("fields", [{}], [[], "a", 1, None]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_types_and_ranges(self, kind, good, bad):
        options = {"low": 0, "high": 3} if kind == "integer" else {}
        for value in good:
            found = getattr(Fields({"x": value}), kind)("x", **options)
            assert kind == "fields" or (found == value and type(found) is type(value))
        for value in [*bad, ...]:
            with pytest.raises(DataError, match=r"a\.x"):
                getattr(Fields({} if value is ... else {"x": value}, "a"), kind)("x", **options)

    def test_lists_of_numbers(self):
        assert Fields({"x": [1, 2.5]}).numbers("x", 2) == (1, 2.5)
        for bad in ([1], [1, 2, 3], [1, "2"], [1, True], "12", {"0": 1}, None):
            with pytest.raises(DataError, match="x must be"):
                Fields({"x": bad}).numbers("x", 2)

    def test_what_nobody_asked_for_is_named(self):
        fields = Fields({"x": 1, "y": 2, "a": 3}, "about")
        fields.value("x")
        with pytest.raises(DataError, match=r"unknown fields \['about\.a', 'about\.y'\]"):
            fields.finish()

    def test_long_values_are_cut_in_messages(self):
        with pytest.raises(DataError) as error:
            Fields({"x": ["long"] * 1000}).integer("x", 0, 1)
        assert len(str(error.value)) < 150


def test_plain_values():
    assert all(map(is_plain, [1, 2.5, "a", True]))
    assert not any(map(is_plain, [None, [], {}, "", float("nan"), float("-inf"), 10**400, "\n"]))
