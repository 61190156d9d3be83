"""What every codec of the benchmark starts from, the order-0 entropy of it, and the check of what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Logits


@dataclass(frozen=True)
class Kept:
    """The k largest logits of N views: `ids` [N, k] int32 ascending, and their `values` [N, k] float32."""

    ids: NDArray[np.int32]
    values: NDArray[np.float32]
    num_classes: int
    step: float

    @classmethod
    def of(cls, logits: NDArray[np.float32], k: int, step: float) -> Kept:
        """By a stable sort of all classes: equal logits go to the lower id, whatever the codec under test does."""
        largest = np.empty((len(logits), k), dtype=np.int64)
        for row, values in enumerate(logits):
            largest[row] = np.argsort(-values, kind="stable")[:k]
        ids = np.sort(largest, axis=1)
        return cls(ids.astype(np.int32), np.take_along_axis(logits, ids, axis=1), logits.shape[1], step)

    @property
    def num_views(self) -> int:
        """N."""
        return self.ids.shape[0]

    @property
    def k(self) -> int:
        """Classes kept a view."""
        return self.ids.shape[1]

    @cached_property
    def gaps(self) -> NDArray[np.int32]:
        """Distance of each id from the one before it, less one; the first is the id itself. [N, k]."""
        return np.diff(self.ids, axis=1, prepend=np.int32(-1)) - 1

    @cached_property
    def steps(self) -> NDArray[np.int32]:
        """Values in whole steps above the smallest of their label, in id order. [N, k]."""
        return in_steps(self.values, self.step)

    @property
    def logits(self) -> Logits:
        """As a codec of the library takes labels that were cut already."""
        return Logits(self.ids, self.values)


def in_steps(values: NDArray[np.float32], step: float) -> NDArray[np.int32]:
    """Whole steps above the smallest of each row."""
    steps = np.rint(values / np.float32(step)).astype(np.int32)
    return steps - steps.min(axis=1, keepdims=True)


def select(logits: torch.Tensor, k: int, step: float) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """What the peers need done before they start: choice of the k largest, ids in order, values in steps."""
    values, ids = torch.topk(logits, k, sorted=False)
    ids, order = torch.sort(ids)
    return ids.numpy(), in_steps(torch.gather(values, 1, order).numpy(), step)


def order0_bytes(kept: Kept) -> dict[str, float]:
    """Bytes a view that independent symbols need: k times the entropy of all gaps, and of all values in steps."""
    ids, values = (_entropy_bits(symbols) * kept.k / 8 for symbols in (kept.gaps, kept.steps))
    return {"ids": ids, "values": values, "total": ids + values}


def _entropy_bits(symbols: NDArray[np.int32]) -> float:
    counts = np.bincount(symbols.reshape(-1)).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def uniform_set_bytes(num_classes: int, k: int) -> float:
    """log2 of the number of sets of k classes, in bytes: ids without any statistics and without their order."""
    nats = math.lgamma(num_classes + 1) - math.lgamma(k + 1) - math.lgamma(num_classes - k + 1)
    return nats / math.log(2) / 8


def check_decoded(kept: Kept, decoded: Logits) -> None:
    """Refuse labels that are not those of `kept`.

    Raises:
        ValueError: other classes, a value more than half a step off after the one shift that a label may have, or
            another order than the argmax first, then by value, then by id.
    """
    order = np.argsort(decoded.ids, axis=1)
    if not np.array_equal(np.take_along_axis(decoded.ids, order, axis=1), kept.ids):
        raise ValueError("the decoded classes are not the k largest of the input")
    errors = np.take_along_axis(decoded.values, order, axis=1).astype(np.float64) - kept.values
    spread = float((errors.max(axis=1) - errors.min(axis=1)).max())
    if spread > kept.step * (1 + 1e-5):
        raise ValueError(f"decoded values spread over {spread:g} around the input's, more than the step {kept.step:g}")
    largest = np.take_along_axis(kept.ids, kept.values.argmax(axis=1)[:, None], axis=1)[:, 0]
    falls = np.diff(decoded.values, axis=1)
    unordered = (falls > 0).any() or ((falls[:, 1:] == 0) & (np.diff(decoded.ids[:, 1:], axis=1) < 0)).any()
    if unordered or not np.array_equal(decoded.ids[:, 0], largest):
        raise ValueError("decoded labels are not ordered by value, then id, the argmax first")
