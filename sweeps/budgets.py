"""What trials of a budget choose from, which one is next, and which one stops: budgets never compete."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from lpqld.codec import LowRank
from lpqld.errors import ConfigError, DataError
from lpqld.recipe import Recipe
from lpqld.sizes import format_bytes
from lpqld.store import write_atomically
from lpqld.temperature import CONSTANT, schedule_parts
from sweeps.choice import PLAIN, Choice, Shared, smallest_budget
from sweeps.config import PaperConfig, SearchConfig
from sweeps.trial import NUM_RUNGS, TrialResult

METRIC, MODE = "val_accuracy", "max"
_FIRST_BITS, _FIRST_LOW_RANK_BITS, _FIRST_END = 4, 5, 2.0  # what docs/findings.md found best


@dataclass(frozen=True)
class Space:
    """What trials of one budget choose from.

    Attributes:
        codecs: the (codec, k, bits) of which one label per image fits.
        epochs: of the experts; none where there is no choice.
    """

    budget: int
    codecs: tuple[tuple[str, int, int], ...]
    search: SearchConfig
    epochs: tuple[int, ...] = ()

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

    def has_room_for(self, params: dict[str, Any]) -> bool:
        """Whether the codec of another budget's trial fits this one."""
        return _codec_in(params) in self.codecs

    def first_points(self, paper: PaperConfig, num_classes: int, recipe: Recipe) -> list[dict[str, Any]]:
        """Where to begin: the paper's k with its temperatures and with the recipe's own, and the largest k with those.

        The paper's k are classes: no directions of a low rank, where there are others.
        """
        of_classes = [codec for codec in self.codecs if codec[0] != LowRank.name] or self.codecs
        wanted, largest = paper.k_for(num_classes), self._kept[-1]
        name, nearest, _ = min(of_classes, key=lambda codec: (abs(codec[1] - wanted), codec[1]))
        points = [
            self._point(name, nearest, paper.temperature, recipe),
            self._point(name, nearest, recipe.temperature, recipe),
            self._point(self._names(largest)[0], largest, recipe.temperature, recipe),
        ]
        return [point for index, point in enumerate(points) if point not in points[:index]]

    def _point(self, name: str, k: int, temperature: str, recipe: Recipe) -> dict[str, Any]:
        """A trial's parameters, moved to what the search allows."""
        search, (start, end, own_shape) = self.search, schedule_parts(temperature)
        shape = own_shape if own_shape in search.temperature_shape else search.temperature_shape[0]
        wished = _FIRST_LOW_RANK_BITS if name == LowRank.name else _FIRST_BITS
        bits = min(self._bits(name, k), key=lambda bits: abs(bits - wished))
        point: dict[str, Any] = {"k": k, f"codec_of_{k}": name, f"bits_of_{k}_{name}": bits}
        point |= {"shape": shape, "start": _within(start, search.temperature_start)}
        if shape != CONSTANT:
            point["end"] = _within(_FIRST_END if own_shape == CONSTANT else end, search.temperature_end)
        point |= {"ca": recipe.ca if recipe.ca in search.ca else search.ca[0], "lr": _within(recipe.lr, search.lr)}
        if self.epochs:
            point["epoch"] = self.epochs[-1]
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
    longest = {"temperature": "12.34:12.34:cosine", "ca": "paper", "lr": 0.000123}
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
        spaces.append(Space(budget, fitting, search, epochs))
    return spaces


class BudgetSearch(Searcher):
    """One Optuna study per budget, asked in turn: a common one would drift to the largest budget.

    Good temperatures, calibrations and learning rates are alike at all budgets: every third trial of a budget, once it
    has had its first points, is the best of another one, nearest first, that it has not had itself.
    """

    def __init__(
        self, spaces: list[Space], config: SearchConfig, first_points: list[list[dict[str, Any]]], seed: int
    ) -> None:
        super().__init__(metric=METRIC, mode=MODE)
        self._spaces, self._trials = {space.budget: space for space in spaces}, config.trials
        self._shares = config.sampler == "tpe"
        self._studies = {}
        for index, (space, points) in enumerate(zip(spaces, first_points, strict=True)):
            own_seed = seed * len(spaces) + index  # else all budgets would begin with the same draws
            sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=own_seed)
            if config.sampler == "tpe":
                sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=max(3, config.trials // 3))
            study = optuna.create_study(sampler=sampler, direction="maximize")
            for point in points[: config.trials] if self._shares else ():
                study.enqueue_trial(point)
            self._studies[space.budget] = study
        self._num_first = {space.budget: len(points) for space, points in zip(spaces, first_points, strict=True)}
        self._asked: dict[str, tuple[int, int]] = {}  # budget, and number in its study, by Tune's trial id
        self._again: list[tuple[int, int]] = []  # those that were interrupted
        self._path: Path | None = None

    def kept_at(self, path: Path) -> BudgetSearch:
        """Keep every suggestion and every end of a trial at `path`, and go on from what is there.

        Tune's own snapshots are no substitute: they are copied while the next one is written, so a kill may leave half
        of one, and what was suggested since the last is lost.

        Raises:
            DataError: the file there is damaged.
        """
        if path.is_file():
            try:
                self.restore(str(path))
            except Exception as error:  # a damaged pickle can raise anything
                raise DataError(
                    f"{path}: not the state of a search ({type(error).__name__}: {error}). Delete it: the search "
                    f"begins anew, and trials of before that it chooses again are read, not repeated"
                ) from error
        self._path = path
        return self

    @property
    def ended(self) -> list[Choice]:
        """The choices of all trials that ended, of one budget after another."""
        return [
            choice_of({**trial.params, "budget": budget})
            for budget, study in self._studies.items()
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]

    @property
    def is_finished(self) -> bool:
        """Whether every trial of every budget ended."""
        return len(self.ended) >= self._trials * len(self._studies)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial of the budget that has had the fewest, after those that were interrupted."""
        if self._again:
            budget, number = self._asked[trial_id] = self._again.pop(0)
            return {**self._studies[budget].trials[number].params, "budget": budget}
        budget = min(self._studies, key=self._num_asked)
        study, num_asked = self._studies[budget], self._num_asked(budget)
        if num_asked >= self._trials:
            return str(Searcher.FINISHED)
        if self._shares and num_asked >= self._num_first[budget] and num_asked % 3 == 2:
            shared = self._best_of_others(budget)
            if shared is not None:
                study.enqueue_trial(shared)
        trial = study.ask()
        self._spaces[budget](trial)
        self._asked[trial_id] = budget, trial.number
        self._keep()
        return {**trial.params, "budget": budget}

    def _num_asked(self, budget: int) -> int:
        """Trials of a budget that were suggested; those that only wait in its queue were not."""
        return sum(trial.state != TrialState.WAITING for trial in self._studies[budget].get_trials(deepcopy=False))

    def _best_of_others(self, budget: int) -> dict[str, Any] | None:
        """The parameters of the best trial of the nearest other budget that this one has room for and has not had."""
        space, had = self._spaces[budget], [trial.params for trial in self._studies[budget].trials]
        others = sorted(set(self._studies) - {budget}, key=lambda other: abs(math.log(other / budget)))
        for other in others:
            trials = self._studies[other].get_trials(states=(TrialState.COMPLETE,))
            best = max(trials, key=lambda trial: trial.value or 0.0, default=None)
            if best is not None and best.params not in had and space.has_room_for(best.params):
                return best.params
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a study hears of a trial when it ends."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's study its last value, also of one that was stopped; one that failed may yet be resumed."""
        if result is not None and not error and trial_id in self._asked:
            budget, number = self._asked.pop(trial_id)
            self._studies[budget].tell(number, result[METRIC])
            self._keep()

    def save(self, checkpoint_path: str) -> None:
        """Everything that a resumed search needs, whole or not at all."""
        state = {"studies": self._studies, "unfinished": [*self._again, *self._asked.values()]}
        write_atomically(Path(checkpoint_path), pickle.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """The inverse of `save`: trials that had not ended are suggested again, first; the file is this sweep's own."""
        state = pickle.loads(Path(checkpoint_path).read_bytes())
        self._studies, self._again, self._asked = state["studies"], state["unfinished"], {}

    def _keep(self) -> None:
        if self._path is not None:
            self.save(str(self._path))


class BudgetScheduler(FIFOScheduler):
    """Successive halving (ASHA) within each budget; a common one would stop every small label set."""

    def __init__(self, budgets: tuple[int, ...]) -> None:
        super().__init__()
        self._halving = {
            budget: ASHAScheduler(metric=METRIC, mode=MODE, max_t=NUM_RUNGS + 1, grace_period=3, reduction_factor=2)
            for budget in budgets
        }

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The metric is fixed."""
        return metric is None and mode is None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Enter the trial among those of its budget."""
        self._halving[trial.config["budget"]].on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that is in the lower half of its budget at a rung."""
        if result.get("finished"):
            return str(TrialScheduler.CONTINUE)
        return str(self._halving[trial.config["budget"]].on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Its last value counts at the rung that it reached."""
        self._halving[trial.config["budget"]].on_trial_complete(tune_controller, trial, result)

    def remember(self, result: TrialResult) -> None:
        """Count a trial that ended before an interruption at the rungs that it reached."""
        trial = _Ended(result.choice.trial_id, {"budget": result.choice.budget})
        self.on_trial_add(None, trial)
        rungs = [metrics.val_accuracy for metrics in result.history if metrics.val_accuracy is not None]
        for rung, val_accuracy in enumerate(rungs, 1):
            self.on_trial_result(None, trial, {METRIC: val_accuracy, TRAINING_ITERATION: rung})


@dataclass(frozen=True)
class _Ended:
    """What ASHA asks of one of Tune's trials."""

    trial_id: str
    config: dict[str, Any]
