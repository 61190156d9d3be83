"""Read JSON that anyone may have written: every value is asked for by name, type and range, and none is left over."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from reprlib import repr as short_repr
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import DataError
from lpqld.storage.bitpack import pack, packed_size, unpack

_LONGEST_TEXT = 4096
_MOST_BITS = 32


class Fields:
    """The fields of one JSON object, each read once.

    Every method raises `DataError` where the field is missing or its value is of another type or out of range; the
    message names the field by its path, such as `images.size`.
    """

    def __init__(self, document: object, path: str = "") -> None:
        if not isinstance(document, dict):
            raise DataError(f"{path or 'the document'} must be an object, found {short_repr(document)}")
        self._left, self._path = dict(document), path

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def is_integer(self, name: str) -> bool:
        """Whether a field is there and a whole number."""
        return type(self._left.get(name)) is int

    def path(self, name: str) -> str:
        """How messages call a field."""
        return f"{self._path}.{name}" if self._path else name

    def value(self, name: str) -> Any:
        """Any value."""
        if name not in self._left:
            raise DataError(f"{self.path(name)} is missing")
        return self._left.pop(name)

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.value(name)
        if type(value) is not int or not low <= value <= high:
            raise DataError(f"{self.path(name)} must be a whole number from {low} to {high}, found {short_repr(value)}")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        return _finite(self.value(name), self.path(name))

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers."""
        values = self.value(name)
        if not isinstance(values, list) or len(values) != count:
            raise DataError(f"{self.path(name)} must be {count} numbers, found {short_repr(values)}")
        return tuple(_finite(value, self.path(name)) for value in values)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise DataError(f"{self.path(name)} must be true or false, found {short_repr(value)}")
        return value

    def text(self, name: str) -> str:
        """Printable text of 1 to 4,096 characters."""
        value = self.value(name)
        if not is_text(value):
            raise DataError(f"{self.path(name)} must be 1 to {_LONGEST_TEXT} printable characters")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of one or more texts."""
        values = self.value(name)
        if not isinstance(values, list) or not values or not all(map(is_text, values)):
            raise DataError(f"{self.path(name)} must be a list of texts of 1 to {_LONGEST_TEXT} printable characters")
        return tuple(values)

    def digest(self, name: str, length: int = 64) -> str:
        """`length` lower-case hexadecimal digits."""
        value = self.value(name)
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{length}}}", value):
            raise DataError(f"{self.path(name)} must be {length} hexadecimal digits, found {short_repr(value)}")
        return value

    def fields(self, name: str) -> Fields:
        """An object."""
        return Fields(self.value(name), self.path(name))

    def packed(self, name: str, count: int) -> Packed:
        """`count` whole numbers, packed."""
        fields = self.fields(name)
        bits = fields.integer("bits", 1, _MOST_BITS)
        text = fields.value("packed")
        fields.finish()
        try:
            content = base64.b64decode(text, validate=True)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path(name)}.packed is not base64") from error
        expected, packed = packed_size(count, bits), Packed(bits, content)
        if len(content) != expected:
            raise DataError(f"{self.path(name)}.packed must hold {expected} bytes, found {len(content)}")
        if Packed.of(packed.unpack(count)) != packed:
            raise DataError(f"{self.path(name)} must be in as few bits as its numbers need, padded with zeros")
        return packed

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        if self._left:
            raise DataError(f"unknown fields {short_repr(sorted(map(self.path, self._left)))}")


@dataclass(frozen=True)
class Packed:
    """Whole numbers in as few bits each as the largest of them needs, end to end, highest bit first."""

    bits: int
    content: bytes

    @classmethod
    def of(cls, values: NDArray[np.integer]) -> Packed:
        """Pack numbers from 0 to 2**32 - 1, of which one at least is above 0."""
        bits = int(values.max()).bit_length()
        return cls(bits, pack(values, bits))

    def unpack(self, count: int) -> NDArray[np.int64]:
        """The `count` numbers."""
        return unpack(self.content, count, self.bits)

    def to_json(self) -> dict[str, Any]:
        """The width in bits, and the bytes as base64."""
        return {"bits": self.bits, "packed": base64.b64encode(self.content).decode()}


def is_text(value: object) -> bool:
    """Whether it is text that a manifest may hold."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable()


def is_plain(value: object) -> bool:
    """Whether it is a text, a finite number, true or false."""
    return is_text(value) or isinstance(value, bool) or (isinstance(value, int | float) and _is_finite(value))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _finite(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise DataError(f"{path} must be a finite number, found {short_repr(value)}")
    return value
