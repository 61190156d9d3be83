"""Target probabilities of views, sparse: never views x classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SoftTargets:
    """Probabilities of the classes of B views: one for each class that a label keeps, one that all others share.

    Attributes:
        ids: kept classes, int64 [B, k].
        probabilities: theirs, [B, k].
        rest: that of every other class, [B]; None: 0. With it, rows sum to sum(probabilities) + (C - k) * rest = 1.
        weights: of each view in the loss, [B]; None: 1. A label whose probabilities add up to m is one of weight m.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor
    rest: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @classmethod
    def softmax(
        cls, ids: torch.Tensor, values: torch.Tensor, absent: torch.Tensor | None, num_classes: int, temperature: float
    ) -> SoftTargets:
        """softmax(logits / temperature) of labels that keep the logits `values` [B, k] of the classes `ids` [B, k].

        Args:
            ids: int64 [B, k].
            values: [B, k].
            absent: level and slope of every other class's logit, level + slope / temperature, [B, 2]; None: -infinity.
            num_classes: C.
            temperature: above 0.
        """
        scaled = values / temperature
        num_others = num_classes - ids.shape[1]
        if absent is None or not num_others:
            return cls(ids, scaled.softmax(1))
        # The others are equal, so together they are one class whose logit is higher by log(C - k).
        level = (absent[:, :1] + absent[:, 1:] / temperature) / temperature
        probabilities = torch.cat([scaled, level + math.log(num_others)], dim=1).softmax(1)
        return cls(ids, probabilities[:, :-1], probabilities[:, -1] / num_others)

    @classmethod
    def concatenate(cls, parts: Sequence[SoftTargets]) -> SoftTargets:
        """The views of all `parts`, one label set's, in order."""
        rest = [part.rest for part in parts if part.rest is not None]
        weights = [part.weights for part in parts if part.weights is not None]
        ids, probabilities = (torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "probabilities"))
        return cls(ids, probabilities, torch.cat(rest) if rest else None, torch.cat(weights) if weights else None)

    def expectation(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of `values` [B, C] under these probabilities, [B]."""
        if self.rest is None:
            return (self.probabilities * values.gather(1, self.ids)).sum(1)
        above_rest = (self.probabilities - self.rest[:, None]) * values.gather(1, self.ids)
        return above_rest.sum(1) + self.rest * values.sum(1)

    def negative_entropy(self, num_classes: int) -> torch.Tensor:
        """sum p log p over all classes, [B]."""
        of_kept = torch.xlogy(self.probabilities, self.probabilities).sum(1)
        if self.rest is None:
            return of_kept
        return of_kept + (num_classes - self.ids.shape[1]) * torch.xlogy(self.rest, self.rest)

    def dense(self, num_classes: int) -> torch.Tensor:
        """The probability of every class, [B, C]."""
        rest = self.probabilities.new_zeros(len(self.ids)) if self.rest is None else self.rest
        return rest[:, None].repeat(1, num_classes).scatter_(1, self.ids, self.probabilities)
