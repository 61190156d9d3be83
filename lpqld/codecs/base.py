"""What every codec promises, and the two things all of them need: decoded logits and a check of their input.

A codec is its configuration: a frozen dataclass, equal when its JSON is equal. `encode` turns the teacher's logits of
some views into bytes, `decode` turns them back, given how many views and classes there were. Both are pure functions;
the same input gives the same bytes everywhere. Malformed bytes raise `DataError`, never anything else.

Hints are what a view itself says of its label: classes that are likely among its largest, int32 [N, 0 to 2], -1 for
none. A label set's are the class of the view's image and that of its partner. They must be the same both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError, DataError

LARGEST_NUM_CLASSES = 2**24
MOST_HINTS = 2


class Logits(NamedTuple):
    """Logits of N views: class `ids` [N, k] int32 and their `values` [N, k] float32; other classes are absent.

    `absent` says what absent classes have: None for no probability at all, or float32 [N, 2], level and slope: at
    temperature T each of them has the logit level + slope / T.
    """

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    absent: NDArray[np.float32] | None = None

    @property
    def one_row(self) -> bool:
        """Whether all labels keep the same classes in the same order, and `ids` is one row in memory: `dense_ids`."""
        return self.ids.strides[0] == 0

    @property
    def num_bytes(self) -> int:
        """Bytes of memory, at most."""
        return self.ids.nbytes + self.values.nbytes + (0 if self.absent is None else self.absent.nbytes)

    def take(self, index: NDArray[np.int64] | slice) -> Logits:
        """The logits of some of these views."""
        values = self.values[index]
        ids = np.broadcast_to(self.ids[:1], values.shape) if self.one_row else self.ids[index]
        return Logits(ids, values, None if self.absent is None else self.absent[index])

    def dense(self, num_classes: int, temperature: float = 1.0) -> NDArray[np.float32]:
        """All classes [N, C]; absent ones -inf, or what they have at `temperature`."""
        full = np.full((len(self.ids), num_classes), -np.inf, dtype=np.float32)
        if self.absent is not None:
            full[:] = (self.absent[:, 0] + self.absent[:, 1] / temperature)[:, None]
        np.put_along_axis(full, self.ids.astype(np.int64), self.values, axis=1)
        return full

    @staticmethod
    def concatenate(parts: Sequence[Logits]) -> Logits:
        """Logits of several batches of views as one."""
        if len(parts) == 1:
            return parts[0]
        absent = [part.absent for part in parts if part.absent is not None]
        return Logits(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate(absent) if absent else None,
        )


class Codec(Protocol):
    """Logits to bytes and back."""

    name: ClassVar[str]

    def encode(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> bytes:
        """Bytes of N labels: float [N, C], or sparse logits of at least as many classes as this codec keeps.

        Sparse logits do not say how many classes there are, so they need `num_classes`.
        """
        ...

    def decode(
        self, payload: bytes, *, num_views: int, num_classes: int, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """The logits in `payload`, largest first.

        Raises:
            DataError: `payload` is not what `encode` makes of that many views and classes.
        """
        ...

    def roundtrip(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> Logits:
        """What `decode` gives of `encode`'s result, view by view and without any bytes."""
        ...

    def sizes(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int64]:
        """`sizes[n]` is the length of `encode`'s result for the first n views: int64 [N + 1], from one encoding."""
        ...

    def keep(self, logits: NDArray[np.floating[Any]]) -> Logits:
        """What `encode` will need of dense logits [N, C], before any rounding: a shard in the making is no larger."""
        ...

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """No payload of so many labels is longer."""
        ...

    def kept(self, num_classes: int) -> int:
        """How many classes a decoded label holds."""
        ...

    def bytes_per_view(self, num_classes: int) -> float:
        """About how many bytes a label takes: for plans, not a promise."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        ...


def every_class(
    logits: NDArray[np.floating[Any]] | Logits, num_classes: int | None, remedy: str
) -> NDArray[np.floating[Any]]:
    """Logits of all classes [N, C], of labels that must hold them.

    Raises:
        ConfigError: sparse logits lack classes; `remedy` ends the message.
    """
    if not isinstance(logits, Logits):
        return logits
    if num_classes is None or num_classes != logits.ids.shape[1]:
        raise ConfigError(f"these labels keep {logits.ids.shape[1]} classes a view, not all {num_classes}{remedy}")
    return logits.dense(num_classes)


def dense_ids(num_views: int, num_classes: int) -> NDArray[np.int32]:
    """Ids [N, C] of labels that keep every class, in class order; a view of one row, not a copy."""
    return np.broadcast_to(np.arange(num_classes, dtype=np.int32), (num_views, num_classes))


def check_classes(num_classes: int) -> None:
    """Refuse a number of classes that no label set can have.

    Raises:
        DataError: fewer than 2, or more than 2**24.
    """
    if not 2 <= num_classes <= LARGEST_NUM_CLASSES:
        raise DataError(f"labels have 2 to {LARGEST_NUM_CLASSES} classes, found {num_classes}")


def check_positive(name: str, value: float | None) -> None:
    """Refuse an option that is neither None nor a finite number above 0.

    Raises:
        ConfigError: naming it.
    """
    if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
        raise ConfigError(f"{name} must be a positive number, found {value!r}")


def check_hints(hints: NDArray[np.int32] | None, num_views: int, num_classes: int) -> NDArray[np.int32]:
    """Hints as codecs use them, int32 [N, H]: none where a second one repeats the first.

    Raises:
        ConfigError: another shape, or a class that there is not.
    """
    if hints is None:
        return np.zeros((num_views, 0), dtype=np.int32)
    if hints.ndim != 2 or len(hints) != num_views or hints.shape[1] > MOST_HINTS:
        raise ConfigError(f"hints must be [{num_views}, 0 to {MOST_HINTS}], found {list(hints.shape)}")
    if hints.size and not -1 <= hints.min() <= hints.max() < num_classes:
        raise ConfigError(f"hints must be -1 or a class below {num_classes}, found {hints.min()} to {hints.max()}")
    checked = np.array(hints, dtype=np.int32)
    if checked.shape[1] == MOST_HINTS:
        checked[checked[:, 0] == checked[:, 1], 1] = -1
    return checked


def check_finite(values: NDArray[np.floating[Any]], first: int = 0) -> None:
    """Refuse NaN and infinite logits.

    Raises:
        DataError: naming the first view that has one; `first` is the first row's view.
    """
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DataError(f"view {first + int(bad.argmax())} has a NaN or infinite logit; the teacher cannot label it")


def as_half(values: NDArray[np.floating[Any]], first: int = 0) -> NDArray[np.float16]:
    """Finite values as little-endian fp16.

    Raises:
        DataError: one is beyond fp16, naming the first view that has it.
    """
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    overflown = ~np.isfinite(half).all(axis=1)
    if overflown.any():
        raise DataError(
            f"view {first + int(overflown.argmax())} has a logit beyond fp16's largest, 65504; use a codec with a step"
        )
    return half


def check_length(payload: bytes, expected: int, what: str) -> None:
    """Refuse a payload of another length."""
    if len(payload) != expected:
        raise DataError(f"{what} payload has {len(payload)} bytes, expected {expected}: the file is damaged")
