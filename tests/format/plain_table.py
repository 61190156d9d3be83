"""A second reader of tables of views, after docs/label-format.md alone: plain and slow, without numpy or lpqld."""

from __future__ import annotations

import struct
from typing import Any

CUTMIX, MIXUP, CUTOUT, RANKS = 1, 2, 4, 8


def read_table(content: bytes) -> dict[str, Any]:
    """Columns by name, as lists of the numbers that they stand for; `order` has the labelled views by position."""
    magic, version, unit, flags, count, batches, images, side, largest_batch, largest_rank = struct.unpack_from(
        "<4sHBB6I", content
    )
    assert (magic, version) == (b"LPQV", 1)
    rest = content[32:]

    def column(numbers: int, bits: int) -> list[int]:
        nonlocal rest
        size = -(-numbers * bits // 8)
        text = "".join(f"{byte:08b}" for byte in rest[:size])
        assert len(rest) >= size
        assert set(text[numbers * bits :]) <= {"0"}
        rest = rest[size:]
        return [int(text[place * bits : (place + 1) * bits] or "0", 2) for place in range(numbers)]

    def rows_of(numbers: list[int], width: int) -> list[list[int]]:
        return [numbers[place : place + width] for place in range(0, len(numbers), width)]

    place, pixel = (largest_batch - 1).bit_length(), side.bit_length()
    found: dict[str, Any] = {"num_images": images, "side": side, "crop_unit": ("pixel", "half", "single")[unit]}
    found["batch_sizes"] = [size + 1 for size in column(batches, place)]
    found["rows"] = column(count, (images - 1).bit_length())
    kind, width = {0: (None, pixel), 1: ("<e", 16), 2: ("<f", 32)}[unit]
    crops = column(4 * count, width)
    found["crops"] = rows_of(
        crops if kind is None else [struct.unpack(kind, crop.to_bytes(width // 8, "little"))[0] for crop in crops], 4
    )
    found["flips"], found["labelled"] = column(count, 1), column(count, 1)
    if flags & (CUTMIX | MIXUP):
        found["partners"] = column(count, place)
        found["lams"] = [struct.unpack("<f", struct.pack("<I", lam))[0] for lam in column(batches, 32)]
    if flags & CUTMIX:
        found["boxes"] = rows_of(column(4 * batches, pixel), 4)
    if flags & CUTOUT:
        boxes, colours = rows_of(column(4 * count, pixel), 4), rows_of(column(3 * count, 8), 3)
        found["cutouts"] = [box + colour for box, colour in zip(boxes, colours, strict=True)]
    if flags & RANKS:
        found["ranks"] = column(count, largest_rank.bit_length())
    assert rest == b""

    views = [view for view in range(count) if found["labelled"][view]]
    numbers, seen = {}, [0] * images
    for view in views:
        row = found["rows"][view]
        numbers[view] = found["ranks"][view] if flags & RANKS else seen[row]
        seen[row] += 1
    found["order"] = sorted(views, key=lambda view: (numbers[view], found["rows"][view]))
    return found
