"""No labels at all: each view has the class of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.base import Codec, CodecRequest, check_length
from lpqld.codecs.label_block import LabelBlock
from lpqld.codecs.logits import Logits
from lpqld.errors import DataError


@dataclass(frozen=True)
class Hard(Codec):
    """Stores nothing: the label follows from the image, whose class is the first hint.

    Encoding gives no bytes, whatever the logits; decoding needs hints, or raises `DataError`.
    """

    name: ClassVar[str] = "hard"
    command_names: ClassVar[tuple[str, ...]] = ("hard",)
    holds_logits: ClassVar[bool] = False

    @classmethod
    def for_labels(cls, request: CodecRequest) -> Hard:
        """Whatever k and bits are: there is only one."""
        return cls()

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

    def _encode(self, block: LabelBlock) -> bytes:
        return b""

    def _decode(self, payload: bytes, num_views: int, num_classes: int, hints: NDArray[np.int32]) -> Logits:
        check_length(payload, 0, "hard")
        return _of_images(hints)

    def _roundtrip(self, block: LabelBlock) -> Logits:
        return _of_images(block.hints)

    def _sizes(self, block: LabelBlock) -> NDArray[np.int64]:
        return np.zeros(len(block) + 1, dtype=np.int64)


def _of_images(hints: NDArray[np.int32]) -> Logits:
    """One class a view [N, 1], its image's."""
    ids = hints[:, :1]
    if ids.shape[1] == 0 or ids.min(initial=0) < 0:
        raise DataError("hard labels follow from the images: pass the class of each view's image as its first hint")
    ids = np.ascontiguousarray(ids)
    return Logits(ids, np.zeros(ids.shape, dtype=np.float32))
