"""Sizes of files as people write them: decimal units (1 KB = 1000 bytes), binary ones accepted."""

from __future__ import annotations

import re
from fractions import Fraction

from lpqld.errors import ConfigError

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str) -> int:
    """The number of bytes that `text` names: `"50KB"`, `"1.5 MB"`, `"8KiB"` or plain `"1234"`.

    Raises:
        ConfigError: `text` is not a size, is not a whole number of bytes, or is not above zero.

    Example:
        >>> parse_size("50KB"), parse_size("8KiB")
        (50000, 8192)
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(
            f"{text!r} is not a size: write a number and a unit, such as 50KB, 1.5MB or 8KiB (1 KB = 1000 bytes)"
        )
    size = Fraction(match[1]) * _UNITS[match[2].lower()]
    if size <= 0:
        raise ConfigError(f"a size must be above zero bytes, not {text!r}")
    if size.denominator != 1:
        raise ConfigError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_bytes(num_bytes: float) -> str:
    """`num_bytes` for a reader: three digits that count, in the largest decimal unit that keeps them above 1.

    Example:
        >>> format_bytes(20_000), format_bytes(12_345), format_bytes(999)
        ('20 KB', '12.3 KB', '999 B')
    """
    if num_bytes < 0:
        raise ValueError(f"a size cannot be negative: {num_bytes}")
    value = float(num_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        text = _three_digits(value)
        if float(text) < 1000:
            return f"{text} {unit}"
        value /= 1000
    return f"{_three_digits(value)} TB"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return (f"{value:.1f}" if value >= 9.995 else f"{value:.2f}").rstrip("0").rstrip(".")
