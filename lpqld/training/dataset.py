"""A label set as a torch dataset: rendered views and target logits, for any training loop.

Example:
    >>> images = ImageSet.open("digits:train")  # doctest: +SKIP
    >>> data = ViewDataset(images, LabelSet.open("labels"))  # doctest: +SKIP
    >>> for epoch in range(300):  # doctest: +SKIP
    ...     for batch in data.epoch(epoch, batch_size=100):
    ...         loss = -(batch.targets(20.0) * student(batch.views).log_softmax(1)).sum(1).mean()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels import HardLabels, LabelSource, RepeatedLabels
from lpqld.training.recipe import Order, Recipe
from lpqld.training.targets import SoftTargets
from lpqld.views import ImageBank, ViewRule, Views, bank_of, drawn_by

_DRAW_AHEAD = 2**19


@dataclass(frozen=True)
class LabelBatch:
    """B views with their labels.

    Attributes:
        views: float32 [B, 3, S, S] in [0, 1].
        ids: classes that the labels keep, int64 [B, k].
        values: their logits, float32 [B, k].
        image_labels: the class of each view's image, int64 [B].
        num_classes: C.
        absent: level and slope of all other classes, float32 [B, 2] (see `codecs.Logits`); None: no probability.
        weights: of each view in the loss, float32 [B]; None: 1.
    """

    views: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor
    image_labels: torch.Tensor
    num_classes: int
    absent: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> LabelBatch:
        """The same on another device, as trainers such as Lightning ask for."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def soft_targets(self, temperature: float) -> SoftTargets:
        """softmax(label / temperature), as sparse as the label."""
        targets = SoftTargets.softmax(self.ids, self.values, self.absent, self.num_classes, temperature)
        return targets if self.weights is None else replace(targets, weights=self.weights)

    def targets(self, temperature: float) -> torch.Tensor:
        """Probabilities at `temperature`, float32 [B, C]; classes that the label does not keep have none."""
        return self.soft_targets(temperature).dense(self.num_classes)


class ViewDataset(Dataset[LabelBatch]):
    """Views of images with their labels, addressed by position; an item is a batch."""

    def __init__(
        self,
        images: ImageSet,
        labels: LabelSource,
        device: torch.device | str = "cpu",
        *,
        views: Views | None = None,
        order: Order = "views",
        weights: NDArray[np.floating] | None = None,
        bank: ImageBank | None = None,
    ) -> None:
        """Bind labels to the images they were made for.

        Args:
            images: the image set of the labels, or one that contains it.
            labels: a label set, opened or decoded, or what another one would be in a smaller codec. Decoded labels are
                read where they are: processes that share them share one copy.
            device: where images and labels live and views are rendered.
            views: the view of each label; None: those that the labels were made for.
            order: "views", every image once an epoch; "recorded", the batches of an imported set as they were made.
            weights: of each label in the loss, [L] for L labels or for each repetition of L; None: 1.
            bank: the pixels of the views' images, where another data set has them already.

        Raises:
            DataError: the labels were made for other images.
            ConfigError: these labels were not imported, and so have no recorded order.
        """
        self._labels = labels.prepared()
        self._views = self._labels.views_of(images) if views is None else views
        self._recorded = order == "recorded"
        if self._recorded:
            self._views.recorded_batches(0)  # refused now rather than in the first epoch
        self.images, self.device, self.num_labels = self._views.images, torch.device(device), self._labels.num_labels
        # Drawn at once, views cost a twentieth of batch by batch; a view's parameters are 120 bytes.
        self._drawn = self._views.draw(np.arange(self.num_labels)) if self.num_labels <= _DRAW_AHEAD else None
        self._bank = bank or bank_of(self._views, self.device)
        self._image_labels = self.images.labels.to(self.device)
        self._weights = None if weights is None else torch.from_numpy(weights.astype(np.float32)).to(self.device)

    @classmethod
    def hard(
        cls,
        images: ImageSet,
        rule: ViewRule,
        seed: int,
        num_epochs: int,
        device: str | torch.device,
        *,
        bank: ImageBank | None = None,
    ) -> ViewDataset:
        """The hard-label baseline: fresh views every epoch, each with its image's class; `bank` has the pixels."""
        return cls(images, HardLabels(images.num_images * num_epochs, rule, seed), device, bank=bank)

    @classmethod
    def of_recipe(
        cls,
        images: ImageSet,
        labels: LabelSource,
        recipe: Recipe,
        device: str | torch.device,
        *,
        seed: int = 0,
        weights: NDArray[np.floating] | None = None,
    ) -> ViewDataset:
        """The views that a recipe trains on: the labels', or other crops of images that have a label as a whole.

        Args:
            images, labels, device: see the class.
            recipe: of the student.
            seed: of the crops.
            weights: of each label in the loss; None: 1.

        Raises:
            DataError: the labels were made for other images.
            ConfigError: the recipe augments, and the labels are not one for each image.
        """
        if not recipe.augments:
            return cls(images, labels, device, order=recipe.order, weights=weights)
        views = labels.views_of(images)
        if not views.source.redrawable or labels.num_labels != views.images.num_images:
            raise ConfigError(
                "augment_crop and augment_flip need one label of each whole image; these are"
                f" {labels.num_labels} labels of {views.images.num_images} images"
            )
        rule = ViewRule(crop_scale=(recipe.augment_crop, 1.0), flip=recipe.augment_flip, mix="none")
        crops = drawn_by(rule, seed).of(views.images)
        return cls(images, RepeatedLabels(labels, recipe.epochs), device, views=crops, weights=weights)

    def hard_labelled(self, num_epochs: int) -> ViewDataset:
        """Other crops of the same images, unmixed, each with its image's class: nothing of the label set is read.

        Args:
            num_epochs: how many epochs have fresh ones.
        """
        source = self._views.source
        bank = None if self._bank.as_pillow else self._bank  # one copy of the pixels, where they are rendered alike
        rule = replace(source.rule, mix="none")
        return ViewDataset.hard(self.images, rule, source.seed, num_epochs, self.device, bank=bank)

    def __len__(self) -> int:
        return self.num_labels

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        """The views and labels at `positions`."""
        index = np.atleast_1d(np.asarray(positions, dtype=np.int64))
        params = self._views.draw(index) if self._drawn is None else self._drawn.take(index)
        image_labels = self._image_labels[torch.from_numpy(params.rows).to(self.device)]
        views = self._bank.render(params)
        ids, values, absent = self._labels.labels_at(index, views, image_labels)
        weights = None
        if self._weights is not None:
            weights = self._weights[torch.from_numpy(index % len(self._weights)).to(self.device)]
        return LabelBatch(views, ids, values, image_labels, self.images.num_classes, absent, weights)

    def epoch(self, epoch: int, batch_size: int, seed: int = 0) -> Iterator[LabelBatch]:
        """Every image once, in an order that depends on (seed, epoch); all its views before any repeats."""
        for positions in self.batches(epoch, batch_size, seed):
            yield self[positions]

    def batches(self, epoch: int, batch_size: int, seed: int = 0) -> list[NDArray[np.int64]]:
        """The positions of each batch of an epoch, of `batch_size` views but for the last.

        A last batch smaller than half of the others is spread over them: a handful of views is a poor gradient and a
        poorer batch-norm statistic. In the recorded order batches are as they were made.
        """
        if self._recorded:
            return self._views.recorded_batches(epoch)
        positions = self._views.positions_in_epoch(epoch, self.num_labels, seed)
        return np.array_split(positions, max(1, round(len(positions) / batch_size)))


class ViewSampler(Sampler[NDArray[np.int64]]):
    """Batches of positions for `torch.utils.data.DataLoader(dataset, sampler=..., batch_size=None)`.

    Each pass is the next epoch; `set_epoch` says which. Of several processes that train one student, each gets its part
    of every batch; all give the same seed, and together they see what one would.
    """

    def __init__(
        self, dataset: ViewDataset, batch_size: int, seed: int = 0, *, rank: int = 0, num_ranks: int = 1
    ) -> None:
        """Sample batches of `batch_size` views, of all processes together.

        Args:
            dataset: the views.
            batch_size: views of a step.
            seed: of their order.
            rank, num_ranks: which process this is, from 0, and how many there are.

        Raises:
            ConfigError: there is no such rank, or a batch has fewer views than there are ranks.
        """
        if not 0 <= rank < num_ranks:
            raise ConfigError(f"rank {rank} of {num_ranks} processes; expected 0 to {num_ranks - 1}")
        self._dataset, self._batch_size, self._seed, self._epoch = dataset, batch_size, seed, 0
        self._rank, self._num_ranks = rank, num_ranks
        if (smallest := min(map(len, dataset.batches(0, batch_size, seed)))) < num_ranks:
            raise ConfigError(f"a batch of {smallest} views cannot be parted among {num_ranks} processes")

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        # A generator, so that the epoch advances when a pass begins: a loader with workers calls this twice a pass.
        batches = self._dataset.batches(self._epoch, self._batch_size, self._seed)
        self._epoch += 1
        yield from (np.array_split(batch, self._num_ranks)[self._rank] for batch in batches)

    def __len__(self) -> int:
        return len(self._dataset.batches(self._epoch, self._batch_size, self._seed))
