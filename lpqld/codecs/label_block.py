"""What a codec encodes: the labels of some views, with what is known of them, checked once.

Hints are what a view itself says of its label: classes that are likely among its largest, int32 [N, 0 to 2], -1 for
none. A label set's are the class of the view's image and that of its partner. They must be the same both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.logits import DenseOrSparse, Logits, dense_ids
from lpqld.errors import ConfigError, DataError

LARGEST_NUM_CLASSES = 2**24
MOST_HINTS = 2


@dataclass(frozen=True, eq=False)
class LabelBlock:
    """Labels of N views of C classes; `LabelBlock.of` makes one, and checks it.

    Attributes:
        logits: of all classes, float [N, C], or sparse ones of some.
        num_classes: C.
        hints: int32 [N, 0 to 2], see above.
    """

    logits: DenseOrSparse
    num_classes: int
    hints: NDArray[np.int32]

    @staticmethod
    def of(logits: DenseOrSparse, num_classes: int | None = None, hints: NDArray[np.int32] | None = None) -> LabelBlock:
        """Checked labels; sparse logits do not say how many classes there are, so they need `num_classes`.

        Raises:
            ConfigError: sparse logits without `num_classes`, or hints that cannot be.
            DataError: a number of classes that no label set can have.
        """
        if num_classes is None:
            if isinstance(logits, Logits):
                raise ConfigError("encoding sparse logits needs num_classes")
            num_classes = logits.shape[1]
        check_classes(num_classes)
        num_views = len(logits.values if isinstance(logits, Logits) else logits)
        return LabelBlock(logits, num_classes, check_hints(hints, num_views, num_classes))

    @property
    def values(self) -> NDArray[np.floating[Any]]:
        """The logits alone, [N, C] or [N, k]."""
        return self.logits.values if isinstance(self.logits, Logits) else self.logits

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    def take(self, some: slice) -> LabelBlock:
        """The labels of some of these views."""
        logits = self.logits.take(some) if isinstance(self.logits, Logits) else self.logits[some]
        return LabelBlock(logits, self.num_classes, self.hints[some])

    def without_ids(self) -> LabelBlock:
        """The same labels; without ids, where those say only that all classes are there in class order."""
        logits = self.logits
        if not isinstance(logits, Logits) or not logits.one_row:
            return self
        if not np.array_equal(logits.ids[:1], dense_ids(1, self.num_classes)):
            return self
        return LabelBlock(logits.values, self.num_classes, self.hints)

    def every_class(self, remedy: str) -> NDArray[np.floating[Any]]:
        """Logits of all classes [N, C].

        Raises:
            ConfigError: sparse logits lack classes; `remedy` ends the message.
        """
        if not isinstance(self.logits, Logits):
            return self.logits
        held = self.logits.ids.shape[1]
        if self.num_classes != held:
            raise ConfigError(f"these labels keep {held} classes a view, not all {self.num_classes}{remedy}")
        return self.logits.dense(self.num_classes)


def check_classes(num_classes: int) -> None:
    """Refuse a number of classes that no label set can have.

    Raises:
        DataError: fewer than 2, or more than 2**24.
    """
    if not 2 <= num_classes <= LARGEST_NUM_CLASSES:
        raise DataError(f"labels have 2 to {LARGEST_NUM_CLASSES} classes, found {num_classes}")


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
