"""The bytes of a table of views: a header, then columns of integers, each of as many bits as its range needs."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import DataError
from lpqld.storage import pack, packed_size, unpack

CropUnit = Literal["pixel", "half", "single"]
CUTMIX, MIXUP, CUTOUT, RANK = 1, 2, 4, 8
_MAGIC = b"LPQV"
# Magic, version, crop unit, flags, views, batches, images, side, largest batch, largest rank.
_HEADER = struct.Struct("<4sHBBIIIIII")
_VERSION = 1


@dataclass(frozen=True)
class TableLayout:
    """What a table's header says, and which columns follow it."""

    unit: int
    flags: int
    num_views: int
    num_batches: int
    num_images: int
    side: int
    largest_batch: int
    largest_rank: int

    def pack(self, columns: Mapping[str, NDArray[Any]]) -> bytes:
        """Header and columns."""
        parts = (pack(columns[name].astype(np.int64), bits) for name, (_, bits) in self.columns().items())
        return _HEADER.pack(_MAGIC, _VERSION, *vars(self).values()) + b"".join(parts)

    @classmethod
    def unpack(cls, content: bytes) -> tuple[TableLayout, dict[str, Any]]:
        """What `pack` wrote; columns are int64.

        Raises:
            DataError: it is none of its, or damaged.
        """
        layout = cls._header(content)
        columns: dict[str, Any] = {}
        place = _HEADER.size
        for name, (shape, bits) in layout.columns().items():
            count = int(np.prod(shape))
            end = place + packed_size(count, bits)
            columns[name] = unpack(content[place:end], count, bits).reshape(shape)
            if pack(columns[name], bits) != content[place:end]:
                raise DataError(f"damaged: {name} end in other than zeros")
            place = end
        return layout, columns

    @classmethod
    def _header(cls, content: bytes) -> TableLayout:
        """The header of a table; its columns fill the rest of `content` exactly."""
        if len(content) < _HEADER.size or content[:4] != _MAGIC:
            raise DataError("not a table of views, or damaged: its header does not begin as one")
        _, version, *numbers = _HEADER.unpack(content[: _HEADER.size])
        if version != _VERSION:
            raise DataError(f"a table of views of version {version}; this lpqld reads {_VERSION}")
        layout = cls(*numbers)
        known = layout.unit < len(get_args(CropUnit)) and layout.flags < 2 * RANK
        known &= layout.flags & (CUTMIX | MIXUP) != CUTMIX | MIXUP
        if not known or not 0 < layout.num_batches <= layout.num_views or not layout.num_images or not layout.side:
            raise DataError("damaged: a table of views whose header says what none has")
        size = _HEADER.size + sum(packed_size(int(np.prod(shape)), bits) for shape, bits in layout.columns().values())
        if len(content) != size:
            raise DataError(f"damaged: a table of views of {len(content)} bytes, its header describes {size}")
        return layout

    def columns(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """Shape, and bits of each number, of every column."""
        place, pixel = (self.largest_batch - 1).bit_length(), self.side.bit_length()
        crop = {"pixel": pixel, "half": 16, "single": 32}[get_args(CropUnit)[self.unit]]
        columns: dict[str, tuple[tuple[int, ...], int]] = {
            "batch_sizes": ((self.num_batches,), place),
            "rows": ((self.num_views,), (self.num_images - 1).bit_length()),
            "crops": ((self.num_views, 4), crop),
            "flips": ((self.num_views,), 1),
            "labelled": ((self.num_views,), 1),
        }
        if self.flags & (CUTMIX | MIXUP):
            columns["partners"] = (self.num_views,), place
            columns["lams"] = (self.num_batches,), 32
        if self.flags & CUTMIX:
            columns["boxes"] = (self.num_batches, 4), pixel
        if self.flags & CUTOUT:
            columns["cutouts"] = (self.num_views, 4), pixel
            columns["colours"] = (self.num_views, 3), 8
        if self.flags & RANK:
            columns["ranks"] = (self.num_views,), self.largest_rank.bit_length()
        return columns


def crops_as_integers(crops: NDArray[np.float32], unit: CropUnit) -> NDArray[np.integer[Any]]:
    """Crops in the form of their column: pixels, or the bits of their floats."""
    if unit == "pixel":
        return crops.astype(np.int64)
    return crops.astype(np.float16).view(np.uint16) if unit == "half" else crops.view(np.uint32)


def crops_from_integers(numbers: NDArray[np.int64], unit: CropUnit) -> NDArray[np.float32]:
    """The inverse of `crops_as_integers`."""
    if unit == "pixel":
        return numbers.astype(np.float32)
    if unit == "half":
        return numbers.astype(np.uint16).view(np.float16).astype(np.float32)
    return numbers.astype(np.uint32).view(np.float32)
