"""No labels at all: each view has the class of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.base import Logits, check_classes, check_hints, check_length
from lpqld.errors import DataError


@dataclass(frozen=True)
class Hard:
    """Stores nothing: the label follows from the image, whose class is the first hint."""

    name: ClassVar[str] = "hard"

    def encode(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> bytes:
        """No bytes, whatever the logits."""
        return b""

    def decode(
        self, payload: bytes, *, num_views: int, num_classes: int, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """One class a view [N, 1]: its image's.

        Raises:
            DataError: there are bytes, or no hints.
        """
        check_classes(num_classes)
        check_length(payload, 0, "hard")
        return self._of_images(hints, num_views, num_classes)

    def roundtrip(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> Logits:
        """One class a view, whatever the logits."""
        values = logits.ids if isinstance(logits, Logits) else logits
        return self._of_images(hints, len(values), values.shape[1] if num_classes is None else num_classes)

    def sizes(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int64]:
        """Nothing, for every prefix."""
        return np.zeros(len(logits.ids if isinstance(logits, Logits) else logits) + 1, dtype=np.int64)

    def keep(self, logits: NDArray[np.floating[Any]]) -> Logits:
        """The argmax, which is not stored either."""
        ids = logits.argmax(axis=1)[:, None].astype(np.int32)
        return Logits(ids, np.zeros(ids.shape, dtype=np.float32))

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """None."""
        return 0

    def kept(self, num_classes: int) -> int:
        """One."""
        return 1

    def bytes_per_view(self, num_classes: int) -> float:
        """None."""
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """Nothing but the name."""
        return {"name": self.name}

    def _of_images(self, hints: NDArray[np.int32] | None, num_views: int, num_classes: int) -> Logits:
        ids = check_hints(hints, num_views, num_classes)[:, :1]
        if ids.shape[1] == 0 or ids.min(initial=0) < 0:
            raise DataError("hard labels follow from the images: pass the class of each view's image as its first hint")
        ids = np.ascontiguousarray(ids)
        return Logits(ids, np.zeros(ids.shape, dtype=np.float32))
