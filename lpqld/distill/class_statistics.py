"""Squeeze: what a frozen teacher's batch-norm layers see of every class of its training images.

For every batch-norm layer and class, the mean and the biased variance of the layer's input over the class's images and
positions (LPQLD, arXiv 2604.18135; LPLD, arXiv 2410.15919). Sums are exact and add up over parts of the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.distill.bn_hooks import batch_norm_layers, watched
from lpqld.distill.bn_loss import mean_and_square
from lpqld.errors import DataError, few
from lpqld.models import Teacher

_LIKE_ONE = "statistics are added of one teacher and the same classes"


@dataclass(frozen=True)
class LayerSums:
    """Sums over images, by class: of the mean of each channel, less `shift`, and of its mean square about `shift`.

    Attributes:
        shift: the layer's running mean, float64 [F]: near the mean, so that nothing cancels.
        first: float64 [C, F].
        second: float64 [C, F].
    """

    shift: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


@dataclass(frozen=True)
class StatisticsSums:
    """Sums of which `statistics` are made; of different images they add up.

    Attributes:
        class_ids: the classes, ascending, int64 [C].
        counts: images of each, int64 [C].
        layers: by name, in the order in which an image passes them.
    """

    class_ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    layers: dict[str, LayerSums]

    def __add__(self, other: StatisticsSums) -> StatisticsSums:
        """Of both parts of the images."""
        if not np.array_equal(self.class_ids, other.class_ids) or self.layers.keys() != other.layers.keys():
            raise ValueError(_LIKE_ONE)
        layers = {}
        for name, ours in self.layers.items():
            theirs = other.layers[name]
            if not np.array_equal(ours.shift, theirs.shift):
                raise ValueError(_LIKE_ONE)
            layers[name] = LayerSums(ours.shift, ours.first + theirs.first, ours.second + theirs.second)
        return StatisticsSums(self.class_ids, self.counts + other.counts, layers)

    def statistics(self) -> ClassStatistics:
        """Means and biased variances of every class.

        Raises:
            DataError: a class has no image.
        """
        if not self.counts.all():
            empty = self.class_ids[self.counts == 0]
            raise DataError(f"there are no training images of {len(empty)} classes ({few(empty)}); each needs some")
        means, variances = {}, {}
        for name, sums in self.layers.items():
            offset = sums.first / self.counts[:, None]
            means[name] = (sums.shift + offset).astype(np.float32)
            variances[name] = np.maximum(sums.second / self.counts[:, None] - offset**2, 0).astype(np.float32)
        return ClassStatistics(self.class_ids, self.counts, means, variances)

    def overall(self) -> StatisticsSums:
        """The same over the images of all classes together, as one class (of id 0)."""
        layers = {
            name: LayerSums(sums.shift, sums.first.sum(0, keepdims=True), sums.second.sum(0, keepdims=True))
            for name, sums in self.layers.items()
        }
        return StatisticsSums(np.zeros(1, dtype=np.int64), self.counts.sum(keepdims=True), layers)


@dataclass(frozen=True)
class ClassStatistics:
    """Mean and biased variance of every batch-norm layer's input, over a class's images and positions.

    Attributes:
        class_ids: the classes, int64 [C].
        counts: images of each that were seen, int64 [C].
        means, variances: by layer, float32 [C, F], layers in the order in which an image passes them.
    """

    class_ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    means: dict[str, NDArray[np.float32]]
    variances: dict[str, NDArray[np.float32]]

    @classmethod
    def standard(cls, class_ids: NDArray[np.int64], channels: Mapping[str, int]) -> ClassStatistics:
        """Mean zero and variance one in layers of so many `channels`: for measurements."""
        shapes = {name: (len(class_ids), width) for name, width in channels.items()}
        means, variances = (
            {name: np.full(shape, value, dtype=np.float32) for name, shape in shapes.items()} for value in (0, 1)
        )
        return cls(class_ids, np.ones(len(class_ids), dtype=np.int64), means, variances)

    def take(self, class_ids: Sequence[int] | NDArray[np.int64]) -> ClassStatistics:
        """Those of some of the classes, in that order.

        Raises:
            DataError: they are not all there.
        """
        rows = np.searchsorted(self.class_ids, class_ids).clip(max=len(self.class_ids) - 1)
        missing = np.asarray(class_ids)[self.class_ids[rows] != class_ids]
        if len(missing):
            raise DataError(f"there are no statistics of {len(missing)} classes ({few(missing)}); squeeze them")
        return ClassStatistics(
            self.class_ids[rows],
            self.counts[rows],
            {name: values[rows] for name, values in self.means.items()},
            {name: values[rows] for name, values in self.variances.items()},
        )


@torch.inference_mode()
def squeeze(
    teacher: Teacher,
    batches: Iterable[tuple[torch.Tensor, NDArray[np.int64]]],
    class_ids: Sequence[int],
    device: torch.device,
) -> StatisticsSums:
    """Sums of statistics over images of some classes.

    Args:
        teacher: in evaluation mode, on `device`.
        batches: uint8 [B, 3, S, S] images, and their classes [B], each of `class_ids`.
        class_ids: the classes, ascending.

    Raises:
        ConfigError: the teacher has no batch norm.
        DataError: what a layer sees is NaN or infinite.
    """
    ids, counts = np.asarray(class_ids, dtype=np.int64), np.zeros(len(class_ids), dtype=np.int64)
    layers = None
    sums: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    for pixels, classes in batches:
        if layers is None:
            layers = batch_norm_layers(teacher, pixels.shape[-1])
            for name, layer in layers.items():
                assert layer.running_mean is not None
                shift = layer.running_mean.float().cpu().double()
                first, second = (torch.zeros(len(ids), len(shift), dtype=torch.float64) for _ in range(2))
                sums[name] = shift, first, second
        rows = np.searchsorted(ids, classes)
        counts += np.bincount(rows, minlength=len(ids))
        with watched(layers) as seen:
            teacher(pixels.to(device).contiguous(memory_format=torch.channels_last).float().div_(255))
            for name, values in seen.items():
                shift, first, second = sums[name]
                near = shift.float().to(device)
                offset, square = (part.double().cpu() for part in mean_and_square(values, near, len(pixels)))
                if not torch.isfinite(square).all():
                    raise DataError(f"batch norm {name} of the teacher sees NaN or infinite values; check its weights")
                first.index_add_(0, torch.from_numpy(rows), offset)
                second.index_add_(0, torch.from_numpy(rows), square)
    assert layers is not None, "a class has images"
    return StatisticsSums(
        ids, counts, {name: LayerSums(*(part.numpy() for part in parts)) for name, parts in sums.items()}
    )
