"""What every codec promises, and the two things all of them need: decoded logits and a check of their input.

A codec is its configuration: a frozen dataclass, equal when its JSON is equal. `encode` turns the teacher's logits of
some views into bytes, `decode` turns them back, given how many views and classes there were. Both are pure functions;
the same input gives the same bytes everywhere. Malformed bytes raise `DataError`, never anything else.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import DataError


class Logits(NamedTuple):
    """Logits of N views: class `ids` [N, k] int32 and their `values` [N, k] float32; other classes are absent."""

    ids: NDArray[np.int32]
    values: NDArray[np.float32]

    def take(self, index: NDArray[np.int64] | slice) -> Logits:
        """The logits of some of these views."""
        return Logits(self.ids[index], self.values[index])

    def dense(self, num_classes: int) -> NDArray[np.float32]:
        """All classes [N, C], absent ones as -inf."""
        full = np.full((len(self.ids), num_classes), -np.inf, dtype=np.float32)
        np.put_along_axis(full, self.ids.astype(np.int64), self.values, axis=1)
        return full


class Codec(Protocol):
    """Logits to bytes and back."""

    name: ClassVar[str]

    def encode(self, logits: NDArray[np.floating[Any]] | Logits, *, num_classes: int | None = None) -> bytes:
        """Bytes of N labels: float [N, C], or sparse logits of at least as many classes as this codec keeps.

        Sparse logits do not say how many classes there are, so they need `num_classes`.
        """
        ...

    def decode(self, payload: bytes, *, num_views: int, num_classes: int) -> Logits:
        """The logits in `payload`, largest first.

        Raises:
            DataError: `payload` is not what `encode` makes of that many views and classes.
        """
        ...

    def bytes_per_view(self, num_classes: int) -> float:
        """About how many bytes a label takes: a starting point when a budget is filled, not a promise."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        ...


def dense_ids(num_views: int, num_classes: int) -> NDArray[np.int32]:
    """Ids [N, C] of labels that keep every class, in class order; a view of one row, not a copy."""
    return np.broadcast_to(np.arange(num_classes, dtype=np.int32), (num_views, num_classes))


def check_finite(values: NDArray[np.floating[Any]]) -> None:
    """Refuse NaN and infinite logits.

    Raises:
        DataError: naming the first view that has one.
    """
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DataError(
            f"view {int(bad.argmax())} of {len(values)} has a NaN or infinite logit; the teacher cannot label it"
        )


def as_half(values: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Finite values as little-endian fp16.

    Raises:
        DataError: one is beyond fp16, naming the first view that has it.
    """
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    overflown = ~np.isfinite(half).all(axis=1)
    if overflown.any():
        raise DataError(
            f"view {int(overflown.argmax())} has a logit beyond fp16's largest, 65504; use a codec with a step"
        )
    return half


def check_length(payload: bytes, expected: int, what: str) -> None:
    """Refuse a payload of another length."""
    if len(payload) != expected:
        raise DataError(f"{what} payload has {len(payload)} bytes, expected {expected}: the file is damaged")
