"""All logits of every view, as fp16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codec.base import Logits, as_half, check_finite, check_length, dense_ids
from lpqld.errors import ConfigError, DataError


@dataclass(frozen=True)
class Dense:
    """Every class, fp16, little-endian, in class order: what the field stores, and what a master label set holds."""

    name: ClassVar[str] = "dense"

    def encode(self, logits: NDArray[np.floating[Any]] | Logits, *, num_classes: int | None = None) -> bytes:
        """Bytes of float [N, C]; sparse logits must hold every class.

        Raises:
            DataError: a value is NaN, infinite or beyond fp16.
        """
        if isinstance(logits, Logits):
            if num_classes is None or num_classes != logits.ids.shape[1]:
                raise ConfigError(
                    f"these labels keep {logits.ids.shape[1]} classes a view, not all {num_classes}; use a top-k codec"
                )
            logits = logits.dense(num_classes)
        check_finite(logits)
        return as_half(logits).tobytes()

    def decode(self, payload: bytes, *, num_views: int, num_classes: int) -> Logits:
        """Logits [N, C] in class order (the one codec that does not sort by value)."""
        check_length(payload, num_views * num_classes * 2, "dense")
        values = np.frombuffer(payload, dtype="<f2").reshape(num_views, num_classes).astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("dense payload holds a value that is not finite: the file is damaged")
        return Logits(dense_ids(num_views, num_classes), values)

    def bytes_per_view(self, num_classes: int) -> float:
        """Two bytes a class."""
        return 2.0 * num_classes

    def to_json(self) -> dict[str, Any]:
        """Nothing but the name."""
        return {"name": self.name}
