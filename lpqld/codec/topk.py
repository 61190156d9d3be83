"""The k largest logits of every view (MR-k: absent classes get no probability), in steps or as fp16."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codec.base import Logits, as_half, check_finite, check_length
from lpqld.codec.bitpack import pack, packed_size, unpack
from lpqld.errors import ConfigError, DataError

_HEADER = struct.Struct("<iBB")  # smallest base, bits of a base, bits of a difference
_LARGEST_STEP_COUNT = 2**31 - 1


@dataclass(frozen=True)
class TopK:
    """Keeps the k largest logits; values in whole steps, or as fp16 where `step` is None.

    In steps, every decoded value is within step / 2 of the teacher's: nothing is clipped, a payload's fields are as
    wide as its widest value needs. Ties in the choice of k go to the lower class id. Decoded order is by value, then
    id, except that the teacher's argmax always comes first, even where two classes share a step.

    Payload: header, then bit-packed one after the other and each padded to a byte: ids ascending (none at k = C),
    the argmax's place among them, the label's largest value, and each value's distance below it.
    """

    name: ClassVar[str] = "topk"

    k: int
    step: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, found {self.k}")
        if self.step is not None and not (0 < self.step < float("inf")):
            raise ConfigError(f"step must be a positive number, found {self.step}")

    def encode(self, logits: NDArray[np.floating[Any]] | Logits, *, num_classes: int | None = None) -> bytes:
        """Bytes of float [N, C], or of sparse logits with at least k classes a view (then `num_classes` is needed).

        Raises:
            ConfigError: k is more than the classes there are.
            DataError: a logit is NaN, infinite, or too large for the step.
        """
        ids, values, argmax = self._select(logits)
        num_views = len(values)
        if num_classes is None:
            if isinstance(logits, Logits):
                raise ConfigError("encoding sparse logits needs num_classes")
            num_classes = logits.shape[1]
        id_bits = 0 if self.k == num_classes else _bits_for(num_classes - 1)
        parts = [pack(ids, id_bits), pack(argmax, _bits_for(self.k - 1))]
        if self.step is None:
            return b"".join([*parts, as_half(values).tobytes()])
        scaled = np.rint(values.astype(np.float64) / self.step)
        if num_views and np.abs(scaled).max() > _LARGEST_STEP_COUNT:
            raise DataError(
                f"a logit of {np.abs(values).max():g} is more than 2**31 steps of {self.step:g}; use a larger step"
            )
        steps = scaled.astype(np.int64)
        base = steps.max(axis=1, initial=-_LARGEST_STEP_COUNT) if num_views else np.zeros(0, dtype=np.int64)
        below = base[:, None] - steps
        smallest = int(base.min()) if num_views else 0
        base_bits = _bits_for(int((base - smallest).max(initial=0)))
        below_bits = _bits_for(int(below.max(initial=0)))
        header = _HEADER.pack(smallest, base_bits, below_bits)
        return b"".join([header, *parts, pack(base - smallest, base_bits), pack(below, below_bits)])

    def decode(self, payload: bytes, *, num_views: int, num_classes: int) -> Logits:
        """Ids and values [N, k], largest first."""
        if self.k > num_classes:
            raise DataError(f"k={self.k} exceeds the {num_classes} classes of these labels")
        id_bits, count = 0 if self.k == num_classes else _bits_for(num_classes - 1), num_views * self.k
        smallest, base_bits, below_bits, start = 0, 0, 0, 0
        if self.step is not None:
            if len(payload) < _HEADER.size:
                raise DataError("top-k payload is shorter than its header: the file is damaged")
            smallest, base_bits, below_bits = _HEADER.unpack_from(payload)
            start = _HEADER.size
        if max(base_bits, below_bits) > 32:
            raise DataError("top-k payload has fields wider than 32 bits: the file is damaged")
        widths = [(count, id_bits), (num_views, _bits_for(self.k - 1))]
        widths += [(count, 16)] if self.step is None else [(num_views, base_bits), (count, below_bits)]
        check_length(payload, start + sum(packed_size(n, bits) for n, bits in widths), "top-k")
        sections = []
        for n, bits in widths:
            sections.append(payload[start : start + packed_size(n, bits)])
            start += packed_size(n, bits)
        ids = self._decode_ids(sections[0], num_views, num_classes, id_bits)
        argmax = unpack(sections[1], num_views, _bits_for(self.k - 1))
        if self.step is None:
            values = np.frombuffer(sections[2], dtype="<f2").reshape(num_views, self.k).astype(np.float32)
        else:
            base = unpack(sections[2], num_views, base_bits) + smallest
            below = unpack(sections[3], count, below_bits).reshape(num_views, self.k)
            with np.errstate(over="ignore"):
                values = ((base[:, None] - below) * self.step).astype(np.float32)
        if num_views and (argmax.max() >= self.k or not np.isfinite(values).all()):
            raise DataError("top-k payload holds an argmax or a value out of range: the file is damaged")
        return _largest_first(ids, values, argmax)

    def _decode_ids(self, packed: bytes, num_views: int, num_classes: int, id_bits: int) -> NDArray[np.int32]:
        if self.k == num_classes:
            return np.tile(np.arange(num_classes, dtype=np.int32), (num_views, 1))
        ids = unpack(packed, num_views * self.k, id_bits).reshape(num_views, self.k)
        if num_views and (ids.max() >= num_classes or (np.diff(ids, axis=1) <= 0).any()):
            raise DataError("top-k payload holds class ids that are out of range or out of order: the file is damaged")
        return ids.astype(np.int32)

    def _select(
        self, logits: NDArray[np.floating[Any]] | Logits
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]], NDArray[np.int64]]:
        """The k largest of each view, ids ascending: ids and values [N, k], and the argmax's place among them [N].

        Of equal largest values the first one is the argmax: sparse labels put the teacher's there.
        """
        sparse = isinstance(logits, Logits)
        values = logits.values if isinstance(logits, Logits) else logits
        if self.k > values.shape[1]:
            raise ConfigError(f"k={self.k} exceeds the {values.shape[1]} classes of these labels; choose a smaller k")
        check_finite(values)
        argmax = values.argmax(axis=1)
        if isinstance(logits, Logits):
            by_id = np.argsort(logits.ids, axis=1)
            all_ids = np.take_along_axis(logits.ids, by_id, axis=1)
            values = np.take_along_axis(values, by_id, axis=1)
            argmax = (by_id == argmax[:, None]).argmax(axis=1)
            surely_kept = values.copy()
            np.put_along_axis(surely_kept, argmax[:, None], np.inf, axis=1)
        columns = largest(surely_kept if sparse else values, self.k)
        chosen = np.take_along_axis(values, columns, axis=1)
        ids = np.take_along_axis(all_ids, columns, axis=1) if sparse else columns.astype(np.int32)
        return ids, chosen, (columns == argmax[:, None]).argmax(axis=1)

    def bytes_per_view(self, num_classes: int) -> float:
        """About eight bits a value in steps, sixteen as fp16, and the ids."""
        id_bits = 0 if self.k == num_classes else _bits_for(num_classes - 1)
        value_bits = 16 if self.step is None else 8
        return (self.k * (id_bits + value_bits) + _bits_for(self.k - 1)) / 8

    def to_json(self) -> dict[str, Any]:
        """Name, k and step."""
        return {"name": self.name, "k": self.k, "step": self.step}


def step_for_bits(logits: Logits, k: int, bits: int) -> float | None:
    """The step at which the k largest values of a pilot's labels span 2**bits - 1 steps; None (fp16) at 16 bits.

    Args:
        logits: the pilot, a few thousand views.
        k: classes kept, at least 1.
        bits: bits per value, 2 to 16.

    Raises:
        ConfigError: bits out of range.
    """
    if not 2 <= bits <= 16:
        raise ConfigError(f"bits must be 2 to 16, found {bits}")
    if bits == 16:
        return None
    k = min(k, logits.values.shape[1])
    kept = -np.partition(-logits.values, k - 1, axis=1)[:, :k]
    span = float((kept.max(axis=1) - kept.min(axis=1)).max(initial=0.0))
    step = max(span, 1e-3) / (2**bits - 1)
    # Four digits keep the manifest short; rounded up, or the widest label would need one bit more.
    unit = 10.0 ** (math.floor(math.log10(step)) - 3)
    return float(f"{math.ceil(step / unit - 1e-9) * unit:.4g}")


def largest(values: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """Columns of the k largest of each row, ascending [N, k]; equal values: the lower column."""
    num_rows, num_columns = values.shape
    if k == num_columns:
        return np.tile(np.arange(num_columns), (num_rows, 1))
    threshold = np.partition(values, num_columns - k, axis=1)[:, num_columns - k, None]
    above, equal = values > threshold, values == threshold
    missing = k - above.sum(axis=1, keepdims=True)
    keep = above | (equal & (np.cumsum(equal, axis=1) <= missing))
    return np.nonzero(keep)[1].reshape(num_rows, k)


def _largest_first(ids: NDArray[np.int32], values: NDArray[np.float32], argmax: NDArray[np.int64]) -> Logits:
    """Order by value, ties by id, the argmax first."""
    key = -values
    np.put_along_axis(key, argmax[:, None], -np.inf, axis=1)
    order = np.argsort(key, axis=1, kind="stable")
    return Logits(np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1))


def _bits_for(largest_value: int) -> int:
    """Bits that hold 0 ... largest_value."""
    return largest_value.bit_length()
