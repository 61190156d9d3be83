"""A choice: which labels a student gets, and how the student is trained on them.

A choice and its student are a trial (`trial.TrialResult` is what one gave). A choice whose students of several seeds
read the test set is a point of the report (`sweeps.report.Point`). The kinds of choices are in `choice_kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from lpqld.byte_sizes import format_bytes
from lpqld.codecs import Codec, TopK
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels import EncodedLabels, LabelSource, encode, recode
from lpqld.storage import canonical_json, fingerprint
from lpqld.training import Recipe
from sweeps.search.shared import MasterLabels, Shared

PLAIN = TopK.name
# What a choice's JSON says of a field that its kind lacks, in the order in which the fields are written.
_LACKING: dict[str, Any] = {
    "budget": None,
    "k": None,
    "bits": 16,
    "codec": PLAIN,
    "temperature": None,
    "ca": None,
    "lr": None,
    "epoch": None,
    "hard_every": 0,
}
# Left out of params at these values, which say nothing: no epoch, the plain codec, no hard labels.
_UNSAID: dict[str, Any] = {"epoch": None, "codec": PLAIN, "hard_every": 0}


@dataclass(frozen=True)
class ChosenLabels:
    """A choice's labels as a student gets them, and their size; labels are None where there are hard labels alone."""

    labels: LabelSource | None
    label_bytes: int
    num_views: int
    prune_ratio: float


@dataclass(frozen=True, kw_only=True)
class Choice(ABC):
    """Which labels, and how a student is trained on them: one subclass a kind.

    Attributes:
        kind: the name of the kind in results and tracking.
        description: of the kind, in a few words, for reports.
        temperature, ca, lr: of the recipe.
    """

    kind: ClassVar[str]
    description: ClassVar[str]

    temperature: str = "20"
    ca: Literal["fit", "paper", "off"] = "off"
    lr: float = 1e-3

    @property
    def budget(self) -> int | None:
        """Bytes on disk that the labels fill; None where a kind has a size of its own."""
        return None

    @abstractmethod
    def labels(self, shared: Shared) -> ChosenLabels:
        """The labels, a view of the master that takes no memory; their size is exact before any training.

        Raises:
            ConfigError: they cannot be made, for instance because the budget is smaller than one label per image.
        """

    def images(self, shared: Shared) -> ImageSet:
        """The images that the student is trained on."""
        return shared.images

    def recipe(self, shared: Shared) -> Recipe:
        """The sweep's recipe with the choice's temperatures and learning rate; no epochs of hard labels."""
        return replace(shared.recipe, temperature=self.temperature, ca=self.ca, lr=self.lr, hard_every=0)

    def to_json(self) -> dict[str, Any]:
        """JSON values, the same fields for every kind; `choice_kinds.choice_from_json` is the inverse."""
        return {"kind": self.kind, **_LACKING, **asdict(self)}

    @property
    def params(self) -> dict[str, Any]:
        """The fields of `to_json` that say something."""
        document = self.to_json()
        return {name: value for name, value in document.items() if name not in _UNSAID or value != _UNSAID[name]}

    @property
    def trial_id(self) -> str:
        """A short name that depends on the choice alone."""
        digest = fingerprint(canonical_json(self.params))[:8]
        budget = "" if self.budget is None else f"-{format_bytes(self.budget).replace(' ', '')}"
        return f"{self.kind}{budget}-{digest}"


@dataclass(frozen=True, kw_only=True)
class BudgetChoice(Choice):
    """A choice of a codec, and of as many of the master's first views as fill a budget.

    Attributes:
        budget: bytes on disk; None is good for nothing but to ask how small a budget can be.
    """

    budget: int | None = None

    @abstractmethod
    def encoding(self, shared: Shared) -> Codec:
        """The codec of the labels."""

    def master(self, shared: Shared) -> MasterLabels:
        """The labels that the choice takes a part of."""
        return shared.master_of(None)

    def labels(self, shared: Shared) -> ChosenLabels:
        """The labels that fill the budget."""
        codec, recipe = self.encoding(shared), self.recipe(shared).to_json()
        num_views, label_bytes = self._fill(shared, codec)
        labels = recode(self.master(shared).labels, codec, num_views=num_views, recipe=recipe)
        return ChosenLabels(labels, label_bytes, num_views, labels.spec.prune_ratio)

    def encode(self, shared: Shared) -> EncodedLabels:
        """The label set that fills the budget, as it goes to disk."""
        codec, recipe = self.encoding(shared), self.recipe(shared).to_json()
        num_views, _ = self._fill(shared, codec)
        return encode(self.master(shared).labels, codec, num_views=num_views, recipe=recipe)

    def require_room(self, shared: Shared) -> None:
        """Do nothing where the budget has room for one label per image.

        Raises:
            ConfigError: it has none.
        """
        self._fill(shared, self.encoding(shared))

    def _fill(self, shared: Shared, codec: Codec) -> tuple[int, int]:
        """The most views that fit the budget, and the bytes that they take."""
        sizes, recipe = self.master(shared).prefix_sizes(codec), self.recipe(shared).to_json()
        num_views = sizes.most(self._required_budget(), recipe)
        return num_views, sizes.num_bytes(num_views, recipe)

    def _required_budget(self) -> int:
        if self.budget is None:
            raise ConfigError(f"a choice of kind {self.kind} needs a budget")
        return self.budget
