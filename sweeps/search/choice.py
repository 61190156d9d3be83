"""What a trial may choose: labels and recipe; and what every choice of a sweep is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lpqld.byte_sizes import format_bytes
from lpqld.codecs import Codec, Dense, TopK, codec_for
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels import EncodedLabels, Labels, PrefixSizes, RecodedLabels, encode, recode
from lpqld.storage import canonical_json, fingerprint
from lpqld.training import Recipe
from sweeps.search.reference_container import reference_bytes, reference_views

_PILOT_VIEWS = 4096
_RUNG_IMAGES = 1000

PLAIN = TopK.name
Kind = Literal["search", "hard", "all", "prune", "paper", "real"]


@dataclass(frozen=True)
class Choice:
    """Which labels, and how a student is trained on them.

    Attributes:
        kind: "search" is ours (TopK in steps, filling `budget`); the others are baselines: "hard" labels, "all" labels
            in fp16, "prune" (all classes in fp16, views pruned to the budget), "paper" (MR-k in fp16 with the
            reference's bytes, views pruned to the budget), "real" (all labels of random real images).
        budget: bytes, or None.
        k, bits: of the codec.
        codec: `--codec`: what labels say of the classes that they leave out ("topk" says nothing), or "lowrank".
        temperature, ca, lr: of the recipe.
        epoch: of the experts that said the labels; None where trials do not choose it.
        hard_every: of the recipe; baselines have no epochs of hard labels.
    """

    kind: Kind
    budget: int | None = None
    k: int | None = None
    bits: int = 16
    codec: str = PLAIN
    temperature: str = "20"
    ca: Literal["fit", "paper", "off"] = "off"
    lr: float = 1e-3
    epoch: int | None = None
    hard_every: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """All of it as JSON values, without those that say nothing: no epoch, the plain codec, no hard labels."""
        left_out = {"epoch": None, "codec": PLAIN, "hard_every": 0}
        return {name: value for name, value in asdict(self).items() if name not in left_out or value != left_out[name]}

    @property
    def trial_id(self) -> str:
        """A short name that depends on the choice alone."""
        digest = fingerprint(canonical_json(self.params))[:8]
        budget = "" if self.budget is None else f"-{format_bytes(self.budget).replace(' ', '')}"
        return f"{self.kind}{budget}-{digest}"

    @property
    def description(self) -> str:
        """A few words for reports."""
        return {
            "search": "ours",
            "hard": "hard labels",
            "all": "all labels, fp16",
            "prune": "pruning alone, fp16",
            "paper": "paper's setting, its bytes",
            "real": "random real images, all labels",
        }[self.kind]


@dataclass(frozen=True)
class Shared:
    """What every trial of a sweep reads: images, master labels, evaluation images, the recipe that trials vary.

    Trials write to none of it, so that those of a node share one copy (`shared`).

    Attributes:
        real: random real images with labels of their own.
        sizes: a folder where the bytes of the master's prefixes are kept by codec (`PrefixSizes`).
        by_epoch: labels by the epoch of the experts that said them, with a folder of their sizes each; baselines, and
            choices without an epoch, have `labels`.
    """

    images: ImageSet
    labels: Labels
    validation: ImageSet
    test: ImageSet
    recipe: Recipe
    real: tuple[ImageSet, Labels] | None = None
    sizes: Path | None = None
    by_epoch: Mapping[int, tuple[Labels, Path]] = field(default_factory=dict)

    def labels_for(self, choice: Choice) -> Shared:
        """The same with the labels of a choice's epoch as the master."""
        if choice.epoch is None:
            return self
        labels, sizes = self.by_epoch[choice.epoch]
        return replace(self, labels=labels, sizes=sizes)

    @cached_property
    def rung_images(self) -> ImageSet:
        """What rungs are measured on: the validation set, or a stratified part of it.

        Rungs only rank trials of one budget against each other, so a part of a large set is enough for them.
        """
        share = _RUNG_IMAGES / self.validation.num_images
        return self.validation if share >= 1 else self.validation.split(share, seed=0)[0]

    def recipe_of(self, choice: Choice) -> Recipe:
        """The recipe with a choice's temperatures, learning rate and epochs of hard labels."""
        return replace(
            self.recipe, temperature=choice.temperature, ca=choice.ca, lr=choice.lr, hard_every=choice.hard_every
        )

    def sizes_in(self, codec: Codec) -> PrefixSizes:
        """The bytes of every prefix of the master in a codec, encoded once for all budgets and trials."""
        return PrefixSizes(self.labels, codec, self.sizes)

    def prepared(self) -> Shared:
        """The same, with what all trials would compute alike computed already."""
        for images in (self.images, *(self.real or ())[:1]):
            assert images.fingerprint
        assert self.rung_images
        return self


@dataclass(frozen=True)
class ChosenLabels:
    """A choice's labels as a student gets them, and their size."""

    labels: Labels | RecodedLabels | None
    label_bytes: int
    num_views: int
    prune_ratio: float


def choose_labels(choice: Choice, shared: Shared) -> ChosenLabels:
    """A choice's labels, a view of the master that takes no memory; their size is exact before any training.

    Raises:
        ConfigError: the budget is smaller than one label per image.
    """
    shared = shared.labels_for(choice)
    master = shared.labels
    if choice.kind == "hard":
        return ChosenLabels(None, 0, 0, 0.0)
    if choice.kind == "real":
        if shared.real is None:
            raise ConfigError("the random-real baseline needs images.real")
        master = shared.real[1]
    if choice.kind in ("all", "real"):
        return ChosenLabels(master, all_label_bytes(master), master.spec.num_views, 0.0)
    codec, recipe = _codec_of(choice, shared), _recipe_of(choice, shared)
    if choice.kind == "paper":
        num_views = affordable_views(choice, shared)
        label_bytes = reference_bytes(num_views, choice.k or 1, master.spec.batch_size)
    else:
        sizes = shared.sizes_in(codec)
        num_views = sizes.most(_budget_of(choice), recipe)
        label_bytes = sizes.num_bytes(num_views, recipe)
    labels = recode(master, codec, num_views=num_views, recipe=recipe)
    return ChosenLabels(labels, label_bytes, num_views, labels.spec.prune_ratio)


def encode_chosen(choice: Choice, shared: Shared) -> EncodedLabels:
    """The label set of a choice that fills a budget, as it goes to disk."""
    shared = shared.labels_for(choice)
    codec, recipe = _codec_of(choice, shared), _recipe_of(choice, shared)
    return encode(shared.labels, codec, num_views=affordable_views(choice, shared), recipe=recipe)


def affordable_views(choice: Choice, shared: Shared) -> int:
    """The most views that fit a choice's budget.

    Raises:
        ConfigError: it has none, or one that is smaller than one label per image.
    """
    if choice.kind == "paper":
        return reference_views(_budget_of(choice), choice.k or 1, shared.labels.spec)
    shared = shared.labels_for(choice)
    return shared.sizes_in(_codec_of(choice, shared)).most(_budget_of(choice), _recipe_of(choice, shared))


def smallest_budget(choice: Choice, shared: Shared) -> int:
    """Bytes of one label per image in a choice's codec: the smallest budget that it can fill."""
    shared = shared.labels_for(choice)
    num_views, recipe = shared.images.num_images, _recipe_of(choice, shared)
    return encode(shared.labels, _codec_of(choice, shared), num_views=num_views, recipe=recipe).num_bytes


def _budget_of(choice: Choice) -> int:
    if choice.budget is None:
        raise ConfigError(f"a choice of kind {choice.kind} needs a budget")
    return choice.budget


def _recipe_of(choice: Choice, shared: Shared) -> dict[str, Any]:
    return shared.recipe_of(choice).to_json()


def _codec_of(choice: Choice, shared: Shared) -> Codec:
    """The codec of a choice that fills a budget: as fp16 all that the master holds or k classes, else k in steps."""
    logits, num_classes = shared.labels.logits, shared.images.num_classes
    if choice.kind == "paper":
        return TopK(choice.k or 1)
    if choice.kind == "prune":
        stored = logits.ids.shape[1]
        return Dense() if stored == num_classes else TopK(stored)
    pilot = shared.labels.take(np.arange(min(_PILOT_VIEWS, shared.labels.spec.num_views)))
    return codec_for(choice.codec, k=choice.k, bits=choice.bits, num_classes=num_classes, pilot=pilot)


def all_label_bytes(master: Labels) -> int:
    """Bytes on disk of every view's logits, all classes, fp16: what a user stores without this project."""
    spec = master.spec
    if spec.codec.stores_every_logit:
        return PrefixSizes(master, Dense()).num_bytes(spec.num_views)
    return spec.num_views * spec.num_classes * 2
