"""The images of a study: for every seed a random sample of each size, the same in all cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpqld.images import ImageSet
from sweeps.config import StudyConfig


@dataclass(frozen=True)
class SeedImages:
    """The images that one seed draws.

    Attributes:
        by_ipc: for each number of images per class, so many; smaller samples are part of larger ones.
    """

    by_ipc: Mapping[int, ImageSet]

    @classmethod
    def drawn(cls, config: StudyConfig, turn: int) -> SeedImages:
        """Those of the seed whose turn it is, from 0."""
        return cls(
            {ipc: ImageSet.open(config.images, size=config.size, sample=(ipc, config.seed + turn))
             for ipc in set(config.ipc)}
        )  # fmt: skip

    @property
    def largest(self) -> ImageSet:
        """The sample that holds all others."""
        return self.by_ipc[max(self.by_ipc)]

    def mean_logits(self, ipc: int, logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """The mean over experts for the images of `ipc`, [N, C]; `logits`: of each expert, of the largest sample."""
        if not logits:
            return None
        order = np.argsort(self.largest.ids)
        rows = order[np.searchsorted(self.largest.ids, self.by_ipc[ipc].ids, sorter=order)]
        mean = np.stack([expert[rows] for expert in logits]).mean(axis=0, dtype=np.float64)
        return np.asarray(mean, dtype=np.float32)
