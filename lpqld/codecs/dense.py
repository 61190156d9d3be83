"""All logits of every view, in class order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.base import (
    Logits,
    as_half,
    check_classes,
    check_finite,
    check_length,
    check_positive,
    dense_ids,
    every_class,
)
from lpqld.codecs.topk import TopK
from lpqld.errors import DataError


@dataclass(frozen=True)
class Dense:
    """Every class, decoded in class order (the one codec that does not sort by value).

    Without a step, fp16, little-endian: what the field stores, and what a master label set holds. With one, coded as
    `TopK` of all classes.
    """

    name: ClassVar[str] = "dense"

    step: float | None = None

    def __post_init__(self) -> None:
        check_positive("step", self.step)

    def encode(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> bytes:
        """Bytes of float [N, C]; sparse logits must hold every class.

        Raises:
            ConfigError: sparse logits lack classes.
            DataError: a value is NaN, infinite or beyond fp16.
        """
        values = every_class(logits, num_classes, "; use a top-k codec")
        check_finite(values)
        if self.step is not None:
            return self._top(values.shape[1]).encode(self._rounded(values), hints=hints)
        return as_half(values).tobytes()

    def decode(
        self, payload: bytes, *, num_views: int, num_classes: int, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """Logits [N, C] in class order."""
        check_classes(num_classes)
        ids = dense_ids(num_views, num_classes)
        if self.step is not None:
            top = self._top(num_classes).decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
            return Logits(ids, top.dense(num_classes))
        check_length(payload, num_views * num_classes * 2, "dense")
        values = np.frombuffer(payload, dtype="<f2").reshape(num_views, num_classes).astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("dense payload holds a value that is not finite: the file is damaged")
        return Logits(ids, values)

    def roundtrip(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> Logits:
        """Logits [N, C] in class order, as `decode` gives them."""
        values = every_class(logits, num_classes, "; use a top-k codec")
        check_finite(values)
        ids = dense_ids(*values.shape)
        if self.step is None:
            return Logits(ids, as_half(values).astype(np.float32))
        return Logits(ids, self._top(values.shape[1]).roundtrip(self._rounded(values)).dense(values.shape[1]))

    def sizes(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int64]:
        """The length of every prefix's encoding."""
        values = every_class(logits, num_classes, "; use a top-k codec")
        if self.step is not None:
            return self._top(values.shape[1]).sizes(self._rounded(values), hints=hints)
        return np.arange(len(values) + 1, dtype=np.int64) * values.shape[1] * 2

    def keep(self, logits: NDArray[np.floating[Any]]) -> Logits:
        """Everything."""
        return Logits(dense_ids(*logits.shape), logits.astype(np.float32, copy=False))

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """Two bytes a logit; with a step, what `TopK` may need."""
        if self.step is not None:
            return self._top(num_classes).max_bytes(num_views, num_classes)
        return 2 * num_views * num_classes

    def kept(self, num_classes: int) -> int:
        """All of them."""
        return num_classes

    def bytes_per_view(self, num_classes: int) -> float:
        """Two bytes a logit, or about five bits in steps."""
        return 2.0 * num_classes if self.step is None else 0.6 * num_classes

    def to_json(self) -> dict[str, Any]:
        """The name, and the step where there is one."""
        return {"name": self.name} if self.step is None else {"name": self.name, "step": self.step}

    def _top(self, num_classes: int) -> TopK:
        return TopK(num_classes, self.step)

    def _rounded(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """In whole steps: class order does not say which of the classes that share a step was the argmax."""
        assert self.step is not None
        return np.rint(values.astype(np.float64) / self.step) * self.step
