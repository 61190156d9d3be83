"""What trials of a budget choose from, as Optuna's params: `suggested` makes a choice of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import optuna

from lpqld.byte_sizes import format_bytes
from lpqld.codecs import codec_class
from lpqld.errors import ConfigError
from lpqld.training import CONSTANT, Recipe, schedule_parts
from sweeps.config import PaperConfig, SearchConfig
from sweeps.search.choice import PLAIN
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.shared import Shared
from sweeps.search.suggested import SearchedCodec, codec_in

_FIRST_END = 2.0  # what docs/findings.md found best
# The longest texts and numbers that a trial's recipe can have in the manifest, so that what fits with them always fits.
_LONGEST_TEMPERATURE, _LONGEST_LR = "12.34:12.34:cosine", 0.000123


@dataclass(frozen=True)
class Space:
    """What trials of one budget choose from.

    Attributes:
        budget: bytes on disk.
        codecs: those in which one label per image fits.
        search: the ranges of all else.
        epochs: of the experts; none where there is no choice.
        hard_every: of the recipe; (0,) is no choice, and no hard labels.
    """

    budget: int
    codecs: tuple[SearchedCodec, ...]
    search: SearchConfig
    epochs: tuple[int, ...] = ()
    hard_every: tuple[int, ...] = (0,)

    @property
    def _with_hard(self) -> bool:
        """Whether a trial's parameters say `hard_every`."""
        return self.hard_every != (0,)

    def __call__(self, trial: optuna.Trial) -> None:
        """Suggest one trial's parameters (Optuna's define-by-run)."""
        search = self.search
        k = trial.suggest_categorical("k", self._all_k)
        name = trial.suggest_categorical(f"codec_of_{k}", self._names(k))
        trial.suggest_categorical(f"bits_of_{k}_{name}", self._bits(name, k))
        shape = trial.suggest_categorical("shape", list(search.temperature_shape))
        trial.suggest_float("start", *search.temperature_start, log=True)
        if shape != CONSTANT:
            trial.suggest_float("end", *search.temperature_end, log=True)
        trial.suggest_categorical("ca", list(search.ca))
        trial.suggest_float("lr", *search.lr, log=True)
        if self.epochs:
            trial.suggest_categorical("epoch", list(self.epochs))
        if self._with_hard:
            trial.suggest_categorical("hard_every", list(self.hard_every))

    def has_room_for(self, params: dict[str, Any]) -> bool:
        """Whether the codec of another budget's trial fits this one."""
        return codec_in(params) in self.codecs

    def first_params(self, paper: PaperConfig, num_classes: int, recipe: Recipe) -> list[dict[str, Any]]:
        """Where to begin: the paper's k with its temperatures and with the recipe's own, and the largest k with those;
        the second with each choice of hard labels.

        The paper's k are classes: no directions of a low rank, where there are others.
        """
        of_classes = [codec for codec in self.codecs if codec_class(codec.name).k_counts_classes] or self.codecs
        wanted_k, largest_k = paper.k_for(num_classes), self._all_k[-1]
        nearest = min(of_classes, key=lambda codec: (abs(codec.k - wanted_k), codec.k))
        first = [
            self._params(nearest.name, nearest.k, paper.temperature, recipe),
            self._params(nearest.name, nearest.k, recipe.temperature, recipe),
            self._params(self._names(largest_k)[0], largest_k, recipe.temperature, recipe),
        ]
        if self._with_hard:
            first += [{**first[1], "hard_every": every} for every in self.hard_every]
        return [params for index, params in enumerate(first) if params not in first[:index]]

    def _params(self, name: str, k: int, temperature: str, recipe: Recipe) -> dict[str, Any]:
        """A trial's parameters, moved to what the search allows."""
        search = self.search
        params = {**self._codec_params(name, k), **self._temperature_params(temperature)}
        params["ca"] = recipe.ca if recipe.ca in search.ca else search.ca[0]
        params["lr"] = _within(recipe.lr, search.lr)
        if self.epochs:
            params["epoch"] = self.epochs[-1]
        if self._with_hard:
            params["hard_every"] = recipe.hard_every if recipe.hard_every in self.hard_every else self.hard_every[0]
        return params

    def _codec_params(self, name: str, k: int) -> dict[str, Any]:
        usual = codec_class(name).usual_bits
        bits = min(self._bits(name, k), key=lambda bits: abs(bits - usual))
        return {"k": k, f"codec_of_{k}": name, f"bits_of_{k}_{name}": bits}

    def _temperature_params(self, temperature: str) -> dict[str, Any]:
        search = self.search
        start, end, own_shape = schedule_parts(temperature)
        shape = own_shape if own_shape in search.temperature_shape else search.temperature_shape[0]
        params: dict[str, Any] = {"shape": shape, "start": _within(start, search.temperature_start)}
        if shape != CONSTANT:
            params["end"] = _within(_FIRST_END if own_shape == CONSTANT else end, search.temperature_end)
        return params

    @property
    def _all_k(self) -> list[int]:
        return sorted({codec.k for codec in self.codecs})

    def _names(self, k: int) -> list[str]:
        """The codecs that fit with k, as the configuration orders them."""
        return list(dict.fromkeys(codec.name for codec in self.codecs if codec.k == k))

    def _bits(self, name: str, k: int) -> list[int]:
        return [codec.bits for codec in self.codecs if (codec.name, codec.k) == (name, k)]


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def spaces_for(budgets: tuple[int, ...], search: SearchConfig, shared: Shared) -> list[Space]:
    """The search space of every budget.

    Raises:
        ConfigError: a k that the labels do not hold, a codec that needs more of them, or a budget that none fits; the
            smallest is said.
    """
    stored = shared.master.classes_per_view
    too_large = [k for k in search.k if k > stored]
    if too_large:
        raise ConfigError(
            f"search.k {too_large}: the labels hold {stored} classes a view; choose k of at most {stored}"
        )
    epochs, hard_every = tuple(shared.by_epoch), search.hard_every or (shared.recipe.hard_every,)
    smallest_budgets = {
        codec: _smallest_budget(codec, epochs, max(hard_every), shared)
        for codec in _searched_codecs(search, shared.images.num_classes)
    }
    return [Space(budget, _fitting(smallest_budgets, budget), search, epochs, hard_every) for budget in budgets]


def _searched_codecs(search: SearchConfig, num_classes: int) -> list[SearchedCodec]:
    """Every codec, k and bits that a search names, each once."""
    # Where all classes are kept, there is none that anything could be said of: one codec for all that were asked.
    codecs = (
        SearchedCodec(PLAIN if k == num_classes else name, k, bits)
        for name, k, bits in itertools.product(search.codec, search.k, search.bits)
    )
    return list(dict.fromkeys(codecs))


def _smallest_budget(codec: SearchedCodec, epochs: tuple[int, ...], hard_every: int, shared: Shared) -> int:
    """Bytes of one label per image in a codec, with the longest recipe, of the epoch that takes the most."""
    choices = [
        SearchedLabels(
            k=codec.k,
            bits=codec.bits,
            codec=codec.name,
            epoch=epoch,
            temperature=_LONGEST_TEMPERATURE,
            ca="paper",
            lr=_LONGEST_LR,
            hard_every=hard_every,
        )
        for epoch in epochs or (None,)
    ]
    return max(choice.smallest_budget(shared) for choice in choices)


def _fitting(smallest_budgets: dict[SearchedCodec, int], budget: int) -> tuple[SearchedCodec, ...]:
    """The codecs in which one label per image fits a budget; ConfigError where there is none."""
    fitting = tuple(codec for codec, num_bytes in smallest_budgets.items() if num_bytes <= budget)
    if not fitting:
        smallest = min(smallest_budgets, key=smallest_budgets.__getitem__)
        raise ConfigError(
            f"budget {format_bytes(budget)} is smaller than one label per image; the smallest that works is "
            f"{smallest_budgets[smallest]} bytes (k={smallest.k}, {smallest.bits} bits). Raise --budget, or add "
            f"smaller search.k or search.bits"
        )
    return fitting
