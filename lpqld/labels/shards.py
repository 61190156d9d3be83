"""Shards: binary files of a header, view numbers where views were selected, and a codec's payload."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Logits
from lpqld.errors import DataError
from lpqld.labels.spec import LabelSpec
from lpqld.storage import Fields, Location, pack, packed_size, read_part, unpack

SHARD_SUFFIX = ".lpqld"
# Magic, format version, zero, shard index, labels in the shard, first bytes of the specification's fingerprint.
HEADER = struct.Struct("<4sHHII8s")
_MAGIC = b"LPQL"


class ShardLabels(NamedTuple):
    """The labels in a shard; where views were selected, the number of each one's view, int64 [B]."""

    logits: Logits
    numbers: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Shard:
    """What the manifest says of a shard's file: how many bytes it has, and their SHA-256 (hex)."""

    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Shard:
        """Describe a file's content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {"bytes": self.num_bytes, "sha256": self.sha256}

    @classmethod
    def from_json(cls, fields: Fields, spec: LabelSpec, index: int) -> Shard:
        """The manifest's entry for shard `index`.

        Raises:
            DataError: a field is wrong, or the file would be larger than any that holds so many labels.
        """
        num_views = spec.views_in_shard(index)
        smallest = HEADER.size + packed_size(num_views, spec.number_bits)
        largest = smallest + spec.codec.max_bytes(num_views, spec.num_classes)
        shard = cls(fields.integer("bytes", smallest, largest), fields.digest("sha256"))
        fields.finish()
        return shard


def shard_file(index: int) -> str:
    """The file name of a shard."""
    return f"labels-{index:05d}{SHARD_SUFFIX}"


def encode_shard(spec: LabelSpec, index: int, logits: Logits, numbers: NDArray[np.int64] | None = None) -> bytes:
    """The bytes of shard `index`, whose labels are `logits`, of the views `numbers` where they were selected."""
    hints = spec.hints_in_shard(index, numbers)
    packed = b"" if numbers is None else pack(numbers, spec.number_bits)
    return _header(spec, index) + packed + spec.codec.encode(logits, num_classes=spec.num_classes, hints=hints)


def decode_shard(spec: LabelSpec, index: int, content: bytes) -> ShardLabels:
    """The labels in the bytes of shard `index`.

    Raises:
        DataError: the bytes are not that shard.
    """
    check_header(spec, index, content)
    num_views, num_classes = spec.views_in_shard(index), spec.num_classes
    end = HEADER.size + packed_size(num_views, spec.number_bits)
    numbers = None if spec.select is None else _read_numbers(spec, index, content[HEADER.size : end])
    hints = spec.hints_in_shard(index, numbers)
    return ShardLabels(
        spec.codec.decode(content[end:], num_views=num_views, num_classes=num_classes, hints=hints), numbers
    )


def _read_numbers(spec: LabelSpec, index: int, packed: bytes) -> NDArray[np.int64]:
    """The view numbers that shard `index` begins with; within it, each one of an image's views once."""
    count, bits = spec.views_in_shard(index), spec.number_bits
    numbers = unpack(packed, count, bits)
    if pack(numbers, bits) != packed:
        raise DataError(f"damaged: {len(packed)} bytes are not {count} view numbers in {bits} bits each and zeros")
    if numbers.max() >= spec.full_views:
        raise DataError(f"damaged: there is a view number {numbers.max()}, of {spec.full_views} views from 0")
    images = (index * spec.shard_views + np.arange(count)) % spec.num_images
    if len(np.unique(numbers * spec.num_images + images)) < count:
        raise DataError("damaged: it holds a view of an image twice")
    return numbers


def check_header(spec: LabelSpec, index: int, content: bytes) -> None:
    """Refuse bytes that do not begin as shard `index` of `spec` does.

    Raises:
        DataError: they are another set's, another shard, another version, or no shard.
    """
    expected, found = _header(spec, index), content[: HEADER.size]
    if found == expected:
        return
    if len(found) < HEADER.size or found[:4] != _MAGIC:
        raise DataError("not a shard of a label set, or damaged: its header does not begin as one")
    _, version, reserved, place, num_views, owner = HEADER.unpack(found)
    if version != spec.version:
        raise DataError(f"a shard of format version {version}, in a label set of version {spec.version}")
    if owner != expected[-8:]:
        raise DataError(
            f"a foreign shard: it belongs to the label set with fingerprint {owner.hex()}, and this one has "
            f"{expected[-8:].hex()}"
        )
    if place != index:
        raise DataError(f"a shard of this label set in the wrong place: it is number {place}, expected {index}")
    expected_views = spec.views_in_shard(index)
    raise DataError(f"damaged header: {num_views} labels and {reserved}, expected {expected_views} and 0")


def read_shard(folder: Location, spec: LabelSpec, index: int, shard: Shard) -> ShardLabels:
    """Read and verify one shard.

    Raises:
        DataError: it is missing, truncated, damaged or foreign; the message names the file.
    """
    path = folder / shard_file(index)
    content, size = read_part(path, shard.num_bytes)
    try:
        if size != shard.num_bytes or Shard.of(content) != shard:
            _explain(spec, index, shard, content, size)
        return decode_shard(spec, index, content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _header(spec: LabelSpec, index: int) -> bytes:
    owner = bytes.fromhex(spec.fingerprint)[:8]
    return HEADER.pack(_MAGIC, spec.version, 0, index, spec.views_in_shard(index), owner)


def _explain(spec: LabelSpec, index: int, shard: Shard, content: bytes, size: int) -> None:
    """Say why a file is not the one that the manifest describes: another's, truncated or damaged."""
    expected, found = _header(spec, index), content[: HEADER.size]
    changed = sum(one != other for one, other in zip(expected, found, strict=False))
    # Where one byte of the header is all that is wrong, that is damage, whatever the field says now.
    only_header = changed == 1 and Shard.of(expected + content[HEADER.size :]) == shard
    if len(found) == HEADER.size and not only_header:
        check_header(spec, index, content)
    if size != shard.num_bytes:
        what = "truncated" if size < shard.num_bytes else "longer than it was"
        raise DataError(f"{size} bytes, the manifest says {shard.num_bytes}; the file is {what}")
    raise DataError("its checksum does not match the manifest; the file is damaged")
