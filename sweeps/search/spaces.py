"""What trials of a budget choose from."""

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
from sweeps.search.choice import PLAIN, Choice, Shared, smallest_budget

_FIRST_END = 2.0  # what docs/findings.md found best


@dataclass(frozen=True)
class Space:
    """What trials of one budget choose from.

    Attributes:
        codecs: the (codec, k, bits) of which one label per image fits.
        epochs: of the experts; none where there is no choice.
        hard_every: of the recipe; (0,) is no choice, and no hard labels.
    """

    budget: int
    codecs: tuple[tuple[str, int, int], ...]
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
        k = trial.suggest_categorical("k", self._kept)
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
        return _codec_in(params) in self.codecs

    def first_points(self, paper: PaperConfig, num_classes: int, recipe: Recipe) -> list[dict[str, Any]]:
        """Where to begin: the paper's k with its temperatures and with the recipe's own, and the largest k with those;
        the second with each choice of hard labels.

        The paper's k are classes: no directions of a low rank, where there are others.
        """
        of_classes = [codec for codec in self.codecs if codec_class(codec[0]).k_counts_classes] or self.codecs
        wanted, largest = paper.k_for(num_classes), self._kept[-1]
        name, nearest, _ = min(of_classes, key=lambda codec: (abs(codec[1] - wanted), codec[1]))
        points = [
            self._point(name, nearest, paper.temperature, recipe),
            self._point(name, nearest, recipe.temperature, recipe),
            self._point(self._names(largest)[0], largest, recipe.temperature, recipe),
        ]
        if self._with_hard:
            points += [{**points[1], "hard_every": every} for every in self.hard_every]
        return [point for index, point in enumerate(points) if point not in points[:index]]

    def _point(self, name: str, k: int, temperature: str, recipe: Recipe) -> dict[str, Any]:
        """A trial's parameters, moved to what the search allows."""
        search, (start, end, own_shape) = self.search, schedule_parts(temperature)
        shape = own_shape if own_shape in search.temperature_shape else search.temperature_shape[0]
        usual = codec_class(name).usual_bits
        bits = min(self._bits(name, k), key=lambda bits: abs(bits - usual))
        point: dict[str, Any] = {"k": k, f"codec_of_{k}": name, f"bits_of_{k}_{name}": bits}
        point |= {"shape": shape, "start": _within(start, search.temperature_start)}
        if shape != CONSTANT:
            point["end"] = _within(_FIRST_END if own_shape == CONSTANT else end, search.temperature_end)
        point |= {"ca": recipe.ca if recipe.ca in search.ca else search.ca[0], "lr": _within(recipe.lr, search.lr)}
        if self.epochs:
            point["epoch"] = self.epochs[-1]
        if self._with_hard:
            point["hard_every"] = recipe.hard_every if recipe.hard_every in self.hard_every else self.hard_every[0]
        return point

    @property
    def _kept(self) -> list[int]:
        return sorted({k for _, k, _ in self.codecs})

    def _names(self, k: int) -> list[str]:
        """The codecs that fit with k, as the configuration orders them."""
        return list(dict.fromkeys(name for name, other, _ in self.codecs if other == k))

    def _bits(self, name: str, k: int) -> list[int]:
        return [bits for *other, bits in self.codecs if other == [name, k]]


def _codec_in(params: dict[str, Any]) -> tuple[str, int, int]:
    """Codec, k and bits of a trial's parameters."""
    k = params["k"]
    name = params[f"codec_of_{k}"]
    return name, k, params[f"bits_of_{k}_{name}"]


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def choice_of(config: dict[str, Any]) -> Choice:
    """The choice that Optuna's parameters of a budget stand for."""
    start, (codec, k, bits) = float(f"{config['start']:.3g}"), _codec_in(config)
    temperature = (
        f"{start:g}" if config["shape"] == CONSTANT else f"{start:g}:{min(config['end'], start):.3g}:{config['shape']}"
    )
    return Choice(
        kind="search",
        budget=config["budget"],
        k=k,
        bits=bits,
        codec=codec,
        temperature=temperature,
        ca=config["ca"],
        lr=float(f"{config['lr']:.3g}"),
        epoch=config.get("epoch"),
        hard_every=config.get("hard_every", 0),
    )


def spaces_for(budgets: tuple[int, ...], search: SearchConfig, shared: Shared) -> list[Space]:
    """The search space of every budget.

    Raises:
        ConfigError: a k that the labels do not hold, a codec that needs more of them, or a budget that none fits; the
            smallest is said.
    """
    stored = shared.labels.logits.ids.shape[1]
    too_large = [k for k in search.k if k > stored]
    if too_large:
        raise ConfigError(
            f"search.k {too_large}: the labels hold {stored} classes a view; choose k of at most {stored}"
        )
    # The longest text that a trial's recipe can have in the manifest, so that what fits here fits there.
    hard_every = search.hard_every or (shared.recipe.hard_every,)
    longest = {"temperature": "12.34:12.34:cosine", "ca": "paper", "lr": 0.000123, "hard_every": max(hard_every)}
    sizes, epochs = {}, tuple(shared.by_epoch)
    # Where all classes are kept, there is none that anything could be said of: one codec for all that were asked.
    codecs = dict.fromkeys(
        (PLAIN if k == shared.images.num_classes else name, k, bits)
        for name, k, bits in itertools.product(search.codec, search.k, search.bits)
    )
    for name, k, bits in codecs:
        choices = [
            Choice(kind="search", k=k, bits=bits, codec=name, epoch=epoch, **longest)  # type: ignore[arg-type]
            for epoch in epochs or (None,)
        ]
        sizes[name, k, bits] = max(smallest_budget(choice, shared) for choice in choices)
    spaces = []
    for budget in budgets:
        fitting = tuple(codec for codec, size in sizes.items() if size <= budget)
        if not fitting:
            smallest = min(sizes, key=sizes.__getitem__)
            raise ConfigError(
                f"budget {format_bytes(budget)} is smaller than one label per image; the smallest that works is "
                f"{sizes[smallest]} bytes (k={smallest[1]}, {smallest[2]} bits). Raise --budget, or add smaller "
                f"search.k or search.bits"
            )
        spaces.append(Space(budget, fitting, search, epochs, hard_every))
    return spaces
