"""What a source of labels promises to whoever trains on it, and the sources that hold no label set.

Members: `Labels` and `LabelSet` (decoded), `RecodedLabels` (made from a larger set when they are read), `HardLabels`
(the class of each view's image) and `RepeatedLabels`. A training reads positions in the order of `Views`, batch by
batch and epoch by epoch, so a source may decode what comes next ahead. It hands over the rendered views, so a source
may compute labels from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Logits
from lpqld.images import ImageSet
from lpqld.views import ViewRule, Views, drawn_by


class DeviceLogits(NamedTuple):
    """The labels of B views on a device.

    Attributes:
        ids: classes that the labels keep, int64 [B, k].
        values: their logits, float32 [B, k].
        absent: level and slope of all other classes, float32 [B, 2] (see `codecs.Logits`); None: no probability.
    """

    ids: torch.Tensor
    values: torch.Tensor
    absent: torch.Tensor | None = None

    @classmethod
    def of(cls, logits: Logits, device: torch.device) -> DeviceLogits:
        """Copy labels to a device."""
        return cls(
            torch.from_numpy(logits.ids.astype(np.int64)).to(device),
            torch.from_numpy(logits.values).to(device),
            None if logits.absent is None else torch.from_numpy(logits.absent).to(device),
        )


class LabelSource(Protocol):
    """Labels by position, wherever they come from."""

    @property
    def num_labels(self) -> int:
        """How many there are; positions are below it."""

    def views_of(self, images: ImageSet) -> Views:
        """The views that these are the labels of.

        Args:
            images: the images of the labels, or a set that contains them; `Views.images` are those of the labels.

        Raises:
            DataError: they are not there; the message holds both fingerprints.
        """

    def prepared(self) -> LabelSource:
        """The same labels in the form that is read fastest again and again."""

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """The labels at some positions, on the device of their views.

        Args:
            positions: [B].
            views: rendered, float32 [B, 3, S, S] in [0, 1].
            image_labels: the class of each view's image, int64 [B].
        """


@dataclass(frozen=True)
class HardLabels:
    """The class of each view's image, for views that a rule draws.

    Attributes:
        num_labels: how many.
        rule, seed: of the views.
    """

    num_labels: int
    rule: ViewRule
    seed: int

    def views_of(self, images: ImageSet) -> Views:
        """The views that the rule draws, of all `images`."""
        return drawn_by(self.rule, self.seed).of(images)

    def prepared(self) -> HardLabels:
        """These."""
        return self

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """One class each, whose logit says nothing."""
        return DeviceLogits(image_labels[:, None], torch.zeros(len(positions), 1, device=views.device))


@dataclass(frozen=True)
class RepeatedLabels:
    """All labels of a source, several times over: for views that are drawn anew in every epoch.

    Attributes:
        labels: the source.
        times: how often.
    """

    labels: LabelSource
    times: int

    @property
    def num_labels(self) -> int:
        """How many there are, repetitions counted."""
        return self.labels.num_labels * self.times

    def views_of(self, images: ImageSet) -> Views:
        """The views of the labels, once."""
        return self.labels.views_of(images)

    def prepared(self) -> RepeatedLabels:
        """These."""
        return self

    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        """The labels at `positions`, counted from 0 in each repetition."""
        return self.labels.labels_at(positions % self.labels.num_labels, views, image_labels)
