"""Sizes as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.byte_sizes import format_bytes, parse_size
from lpqld.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("50KB", 50_000), ("1MB", 10**6), ("8KiB", 8192), ("1234", 1234), (" 1.5 mb ", 1_500_000), ("2 GiB", 2**31),
     ("7b", 7), ("0.001KB", 1)],
)  # fmt: skip
def test_a_size_is_a_number_and_a_unit(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "KB", "50 K", "5O KB", "-3KB", "0", "0MB", "1e3", "1,000", "1.5", "0.0001KB", "nan", "١KB", "1 KB 2"]
)
def test_what_is_no_size_above_zero_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"size|bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1050, "1.05 KB"), (12_345, "12.3 KB"), (99_960, "100 KB"),
     (999_499, "999 KB"), (999_500, "1 MB"), (3_200_000_000, "3.2 GB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_bytes_are_written_with_three_digits(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_bytes(-1)


@given(st.integers(1, 10**15))
def test_what_is_written_reads_back_within_half_a_percent(num_bytes: int) -> None:
    assert parse_size(format_bytes(num_bytes)) == pytest.approx(num_bytes, rel=0.00501)
