"""What all trials of a sweep read: images, master labels, evaluation images, and the recipe that trials vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lpqld.codecs import Codec, Dense, Logits
from lpqld.images import ImageSet
from lpqld.labels import Labels, PrefixSizes
from lpqld.training import Recipe

if TYPE_CHECKING:
    from ray import ObjectRef

# What all trials read, in Ray's object store: the processes of a node read one copy. See `Shared.prepared`.
SharedRef: TypeAlias = "ObjectRef[Shared]"

_PILOT_VIEWS = 4096
_RUNG_IMAGES = 1000


@dataclass(frozen=True)
class MasterLabels:
    """A master's labels, decoded, and the folder that remembers the bytes of its prefixes.

    Attributes:
        labels: of every view.
        sizes_folder: the bytes of prefixes are kept here by codec; None keeps them nowhere.
    """

    labels: Labels
    sizes_folder: Path | None = None

    @property
    def classes_per_view(self) -> int:
        """How many logits of a view are stored."""
        return self.labels.logits.ids.shape[1]

    def pilot(self) -> Logits:
        """The logits of the first views, which codecs are fitted to."""
        return self.labels.take(np.arange(min(_PILOT_VIEWS, self.labels.spec.num_views)))

    def prefix_sizes(self, codec: Codec) -> PrefixSizes:
        """The bytes of every prefix in a codec, encoded once for all budgets and trials."""
        return PrefixSizes(self.labels, codec, self.sizes_folder)


@dataclass(frozen=True)
class RealImages:
    """Random real images, with labels of their own."""

    images: ImageSet
    labels: Labels


@dataclass(frozen=True)
class Shared:
    """What every trial of a sweep reads.

    Trials write to none of it, so that those of a node share one copy in Ray's object store.

    Attributes:
        images: those that students are trained on.
        master: the labels that a choice takes a part of.
        validation: images that select.
        test: images that confirmed choices are measured on.
        recipe: what trials vary.
        real: what the baseline of random real images is trained on.
        by_epoch: masters by the epoch of the experts that labelled; empty where trials do not choose one.
    """

    images: ImageSet
    master: MasterLabels
    validation: ImageSet
    test: ImageSet
    recipe: Recipe
    real: RealImages | None = None
    by_epoch: Mapping[int, MasterLabels] = field(default_factory=dict)

    def master_of(self, epoch: int | None) -> MasterLabels:
        """The master of the experts of an epoch; None is the sweep's own."""
        return self.master if epoch is None else self.by_epoch[epoch]

    @cached_property
    def rung_images(self) -> ImageSet:
        """What rungs are measured on: the validation set, or a stratified part of it.

        Rungs only rank trials of one budget against each other, so a part of a large set is enough for them.
        """
        share = _RUNG_IMAGES / self.validation.num_images
        return self.validation if share >= 1 else self.validation.split(share, seed=0)[0]

    def prepared(self) -> Shared:
        """The same, with what all trials would compute alike computed already."""
        assert self.images.fingerprint
        assert self.real is None or self.real.images.fingerprint
        assert self.rung_images
        return self


def all_label_bytes(labels: Labels) -> int:
    """Bytes on disk of every view's logits, all classes, fp16: what a user stores without this project."""
    spec = labels.spec
    if spec.codec.stores_every_logit:
        return PrefixSizes(labels, Dense()).num_bytes(spec.num_views)
    return spec.num_views * spec.num_classes * 2
