"""The kinds of choices: what a search tries, and the baselines."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from lpqld.codecs import Codec, Dense, TopK, codec_for
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels import encode
from lpqld.training import Recipe
from sweeps.search.choice import PLAIN, BudgetChoice, Choice, ChosenLabels
from sweeps.search.reference_container import reference_bytes, reference_views
from sweeps.search.shared import MasterLabels, Shared, all_label_bytes


@dataclass(frozen=True, kw_only=True)
class SearchedLabels(BudgetChoice):
    """Ours: k classes or directions in few bits.

    Attributes:
        k, bits: of the codec.
        codec: `--codec`: what labels say of the classes that they leave out ("topk" says nothing), or "lowrank".
        epoch: of the experts that said the labels; None where trials do not choose it.
        hard_every: of the recipe.
    """

    kind: ClassVar[str] = "search"
    description: ClassVar[str] = "ours"

    k: int
    bits: int
    codec: str = PLAIN
    epoch: int | None = None
    hard_every: int = 0

    def master(self, shared: Shared) -> MasterLabels:
        """The labels of the epoch."""
        return shared.master_of(self.epoch)

    def recipe(self, shared: Shared) -> Recipe:
        """The sweep's recipe with all that a search varies."""
        return replace(super().recipe(shared), hard_every=self.hard_every)

    def encoding(self, shared: Shared) -> Codec:
        """k classes or directions in steps, fitted to the master's first views."""
        num_classes, pilot = shared.images.num_classes, self.master(shared).pilot()
        return codec_for(self.codec, k=self.k, bits=self.bits, num_classes=num_classes, pilot=pilot)

    def smallest_budget(self, shared: Shared) -> int:
        """Bytes of one label per image: the smallest budget that can be filled."""
        labels, codec, recipe = self.master(shared).labels, self.encoding(shared), self.recipe(shared).to_json()
        return encode(labels, codec, num_views=shared.images.num_images, recipe=recipe).num_bytes


@dataclass(frozen=True, kw_only=True)
class HardLabels(Choice):
    """Baseline: the images' classes, which take no bytes."""

    kind: ClassVar[str] = "hard"
    description: ClassVar[str] = "hard labels"

    def labels(self, shared: Shared) -> ChosenLabels:
        """None."""
        return ChosenLabels(None, 0, 0, 0.0)


@dataclass(frozen=True, kw_only=True)
class AllLabels(Choice):
    """Baseline: every label of the master in fp16."""

    kind: ClassVar[str] = "all"
    description: ClassVar[str] = "all labels, fp16"

    def labels(self, shared: Shared) -> ChosenLabels:
        """The master's own."""
        labels = shared.master_of(None).labels
        return ChosenLabels(labels, all_label_bytes(labels), labels.spec.num_views, 0.0)


@dataclass(frozen=True, kw_only=True)
class RealImageLabels(Choice):
    """Baseline of distilled images: random real images with all labels of their own."""

    kind: ClassVar[str] = "real"
    description: ClassVar[str] = "random real images, all labels"

    def labels(self, shared: Shared) -> ChosenLabels:
        """Those of the real images."""
        if shared.real is None:
            raise ConfigError("the random-real baseline needs images.real")
        labels = shared.real.labels
        return ChosenLabels(labels, all_label_bytes(labels), labels.spec.num_views, 0.0)

    def images(self, shared: Shared) -> ImageSet:
        """The real ones."""
        return shared.images if shared.real is None else shared.real.images


@dataclass(frozen=True, kw_only=True)
class PrunedLabels(BudgetChoice):
    """Baseline: pruning alone, all that the master holds of a view in fp16."""

    kind: ClassVar[str] = "prune"
    description: ClassVar[str] = "pruning alone, fp16"

    def encoding(self, shared: Shared) -> Codec:
        """All classes, or the k of the master."""
        stored = self.master(shared).classes_per_view
        return Dense() if stored == shared.images.num_classes else TopK(stored)


@dataclass(frozen=True, kw_only=True)
class PaperLabels(BudgetChoice):
    """Baseline: the paper's setting, k classes in fp16, with the bytes of the reference's own files."""

    kind: ClassVar[str] = "paper"
    description: ClassVar[str] = "paper's setting, its bytes"

    k: int

    def encoding(self, shared: Shared) -> Codec:
        """k classes in fp16."""
        return TopK(self.k)

    def _fill(self, shared: Shared, codec: Codec) -> tuple[int, int]:
        spec = self.master(shared).labels.spec
        num_views = reference_views(self._required_budget(), self.k, spec)
        return num_views, reference_bytes(num_views, self.k, spec.batch_size)


KINDS: dict[str, type[Choice]] = {
    each.kind: each for each in (SearchedLabels, HardLabels, AllLabels, PrunedLabels, PaperLabels, RealImageLabels)
}


def choice_from_json(document: dict[str, Any]) -> Choice:
    """The inverse of `Choice.to_json`; what it says of fields that the kind lacks is left."""
    kind = KINDS[document["kind"]]
    return kind(**{each.name: document[each.name] for each in fields(kind) if each.name in document})
