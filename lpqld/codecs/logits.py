"""Logits of views as codecs take them and give them back: of all classes, or of some with their class ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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


DenseOrSparse = NDArray[np.floating[Any]] | Logits
"""Logits of all classes, float [N, C] in class order, or `Logits` that say which classes they are of."""


def dense_ids(num_views: int, num_classes: int) -> NDArray[np.int32]:
    """Ids [N, C] of labels that keep every class, in class order; a view of one row, not a copy."""
    return np.broadcast_to(np.arange(num_classes, dtype=np.int32), (num_views, num_classes))
