"""All logits of every view, in class order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.base import CodecRequest, check_length, check_positive
from lpqld.codecs.label_block import LabelBlock, as_half, check_finite
from lpqld.codecs.logits import Logits, dense_ids
from lpqld.codecs.steps import StepCodec, step_for_bits
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError

_REMEDY = "; use a top-k codec"


@dataclass(frozen=True)
class Dense(StepCodec):
    """Every class, decoded in class order. Sparse logits that are encoded must hold every class.

    Without a step, fp16, little-endian: what the field stores, and what a master label set holds. With one, coded as
    `TopK` of all classes.
    """

    name: ClassVar[str] = "dense"
    command_names: ClassVar[tuple[str, ...]] = ("dense",)
    stores_every_logit: ClassVar[bool] = True

    step: float | None = None

    def __post_init__(self) -> None:
        check_positive("step", self.step)

    @classmethod
    def for_labels(cls, request: CodecRequest) -> Dense:
        """All classes: k, if given, must be C."""
        request.check_every_class()
        k, num_classes = request.k, request.num_classes
        if k is not None and k != num_classes:
            raise ConfigError(f"codec dense keeps all {num_classes} classes, not k={k}; use `codec=topk`")
        return cls(step_for_bits(request.pilot, num_classes, request.bits))

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """Two bytes a logit; with a step, what `TopK` may need."""
        if self.step is not None:
            return self._top(num_classes).max_bytes(num_views, num_classes)
        return 2 * num_views * num_classes

    def bytes_per_view(self, num_classes: int) -> float:
        """Two bytes a logit, or about five bits in steps."""
        return 2.0 * num_classes if self.step is None else 0.6 * num_classes

    def _encode(self, block: LabelBlock) -> bytes:
        values = block.every_class(_REMEDY)
        check_finite(values)
        if self.step is not None:
            return self._top(values.shape[1]).encode(self._rounded(values), hints=block.hints)
        return as_half(values).tobytes()

    def _decode(self, payload: bytes, num_views: int, num_classes: int, hints: NDArray[np.int32]) -> Logits:
        ids = dense_ids(num_views, num_classes)
        if self.step is not None:
            top = self._top(num_classes).decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
            return Logits(ids, top.dense(num_classes))
        check_length(payload, num_views * num_classes * 2, "dense")
        values = np.frombuffer(payload, dtype="<f2").reshape(num_views, num_classes).astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("dense payload holds a value that is not finite: the file is damaged")
        return Logits(ids, values)

    def _roundtrip(self, block: LabelBlock) -> Logits:
        values = block.every_class(_REMEDY)
        check_finite(values)
        ids = dense_ids(*values.shape)
        if self.step is None:
            return Logits(ids, as_half(values).astype(np.float32))
        return Logits(ids, self._top(values.shape[1]).roundtrip(self._rounded(values)).dense(values.shape[1]))

    def _sizes(self, block: LabelBlock) -> NDArray[np.int64]:
        values = block.every_class(_REMEDY)
        if self.step is not None:
            return self._top(values.shape[1]).sizes(self._rounded(values), hints=block.hints)
        sizes: NDArray[np.int64] = np.arange(len(values) + 1, dtype=np.int64) * (values.shape[1] * 2)
        return sizes

    def _top(self, num_classes: int) -> TopK:
        return TopK(num_classes, self.step)

    def _rounded(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """In whole steps: class order does not say which of the classes that share a step was the argmax."""
        assert self.step is not None
        return np.rint(values.astype(np.float64) / self.step) * self.step
