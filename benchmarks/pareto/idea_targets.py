"""Other targets and orders than `lpqld train` has: views of ideas that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.training import LabelBatch, SoftTargets, ViewDataset


@dataclass(frozen=True)
class _HardBatch(LabelBatch):
    """Labels are the classes of the images."""

    def soft_targets(self, temperature: float) -> SoftTargets:
        return SoftTargets(self.image_labels[:, None], torch.ones(len(self.image_labels), 1))


@dataclass(frozen=True)
class _MixedHardBatch(LabelBatch):
    """Labels are the classes of both images, of shares `lam` and 1 - `lam`, [B]."""

    partner_labels: torch.Tensor = field(kw_only=True)
    lam: torch.Tensor = field(kw_only=True)

    def soft_targets(self, temperature: float) -> SoftTargets:
        ids = torch.stack([self.image_labels, self.partner_labels], 1)
        return SoftTargets(ids, torch.stack([self.lam, 1 - self.lam], 1))


class HardInTheMiddle(ViewDataset):
    """The class of the image, not the label, in the middle third of the epochs: no bytes (HALD, arXiv 2512.15647)."""

    _epoch = 0

    def batches(self, epoch: int, batch_size: int, seed: int = 0) -> list[NDArray[np.int64]]:
        self._epoch = epoch
        return super().batches(epoch, batch_size, seed)

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        batch = super().__getitem__(positions)
        return self.hardened(batch, positions) if 100 <= self._epoch < 200 else batch

    def hardened(self, batch: LabelBatch, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        return _HardBatch(**vars(batch))


class MixedHardInTheMiddle(HardInTheMiddle):
    """The same, with both classes of a mixed view, each by its share of the pixels."""

    def hardened(self, batch: LabelBatch, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        drawn = self._views.draw(np.atleast_1d(np.asarray(positions)))
        lam = torch.from_numpy(drawn.lam * (1 - drawn.box[:, 2] * drawn.box[:, 3]))
        partners = self._image_labels[torch.from_numpy(drawn.partner)]
        return _MixedHardBatch(**vars(batch), partner_labels=partners, lam=lam)


@dataclass(frozen=True)
class _EvenBatch(LabelBatch):
    """Each label at a temperature of its own: where its values spread as much as labels do on average."""

    def soft_targets(self, temperature: float) -> SoftTargets:
        spread = self.values.std(1, keepdim=True).clamp(min=1e-3)
        return SoftTargets.softmax(
            self.ids, self.values * (spread.mean() / spread), self.absent, self.num_classes, temperature
        )


class TemperaturePerLabel(ViewDataset):
    """Labels scaled to the same spread."""

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        return _EvenBatch(**vars(super().__getitem__(positions)))


class TemperaturePerClass(ViewDataset):
    """Labels scaled so that those of every class spread alike on average."""

    _scales: torch.Tensor | None = None

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        batch = super().__getitem__(positions)
        if self._scales is None:
            all_labels = super().__getitem__(np.arange(self.num_labels))
            spreads, classes = all_labels.values.std(1), all_labels.image_labels
            means = torch.stack([spreads[classes == label].mean() for label in range(batch.num_classes)])
            self._scales = means.mean() / means
        return replace(batch, values=batch.values * self._scales[batch.image_labels][:, None])


class FrozenBatches(ViewDataset):
    """Batches as the reference reuses them: fixed ones, drawn at random each epoch."""

    def batches(self, epoch: int, batch_size: int, seed: int = 0) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng(seed)
        order = generator.permutation(self.num_labels)
        frozen = np.array_split(order, max(1, round(self.num_labels / batch_size)))
        drawn = np.random.default_rng((seed, epoch)).integers(len(frozen), size=self.images.num_images // batch_size)
        return [frozen[index] for index in drawn]
