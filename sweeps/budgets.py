"""What trials of a budget choose from, which one is next, and which one stops: budgets never compete."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lpqld.errors import ConfigError
from lpqld.sizes import format_bytes
from sweeps.choice import Choice, Shared, smallest_budget
from sweeps.config import PaperConfig, SearchConfig
from sweeps.trial import NUM_RUNGS

METRIC, MODE = "val_accuracy", "max"


@dataclass(frozen=True)
class Space:
    """What trials of one budget choose from; `codecs` are the (k, bits) of which one label per image fits."""

    budget: int
    codecs: tuple[tuple[int, int], ...]
    search: SearchConfig

    def __call__(self, trial: optuna.Trial) -> None:
        """Suggest one trial's parameters (Optuna's define-by-run)."""
        search = self.search
        kept = sorted({k for k, _ in self.codecs})
        k = trial.suggest_categorical("k", kept)
        trial.suggest_categorical(f"bits_of_{k}", [bits for other, bits in self.codecs if other == k])
        shape = trial.suggest_categorical("shape", list(search.temperature_shape))
        trial.suggest_float("start", *search.temperature_start, log=True)
        if shape != "constant":
            trial.suggest_float("end", *search.temperature_end, log=True)
        trial.suggest_categorical("ca", list(search.ca))
        trial.suggest_float("lr", *search.lr, log=True)

    def first_points(self, paper: PaperConfig, num_classes: int, lr: float) -> list[dict[str, Any]]:
        """Where to begin: the paper's temperatures with our codec, at its k and at the largest k that fits."""
        search, points = self.search, []
        kept = sorted({k for k, _ in self.codecs})
        nearest = min(kept, key=lambda k: abs(k - paper.k_for(num_classes)))
        for k in dict.fromkeys([nearest, kept[-1]]):
            choices = [bits for other, bits in self.codecs if other == k]
            point: dict[str, Any] = {"k": k, f"bits_of_{k}": min(choices, key=lambda bits: abs(bits - 4))}
            shape = "step" if "step" in search.temperature_shape else search.temperature_shape[0]
            point |= {"shape": shape, "start": search.temperature_start[1]}
            if shape != "constant":
                point["end"] = min(max(2.0, search.temperature_end[0]), search.temperature_end[1])
            point |= {"ca": search.ca[0], "lr": min(max(lr, search.lr[0]), search.lr[1])}
            points.append(point)
        return points


def choice_of(config: dict[str, Any]) -> Choice:
    """The choice that Optuna's parameters of a budget stand for."""
    start, k = float(f"{config['start']:.3g}"), config["k"]
    temperature = (
        f"{start:g}"
        if config["shape"] == "constant"
        else f"{start:g}:{min(config['end'], start):.3g}:{config['shape']}"
    )
    return Choice(
        kind="search",
        budget=config["budget"],
        k=k,
        bits=config[f"bits_of_{k}"],
        temperature=temperature,
        ca=config["ca"],
        lr=float(f"{config['lr']:.3g}"),
    )


def spaces_for(budgets: tuple[int, ...], search: SearchConfig, shared: Shared) -> list[Space]:
    """The search space of every budget.

    Raises:
        ConfigError: a k that the labels do not hold, or a budget that no (k, bits) fits; the smallest is said.
    """
    stored = shared.labels.logits.ids.shape[1]
    too_large = [k for k in search.k if k > stored]
    if too_large:
        raise ConfigError(
            f"search.k {too_large}: the labels hold {stored} classes a view; choose k of at most {stored}"
        )
    # The longest text that a trial's recipe can have in the manifest, so that what fits here fits there.
    longest = {"temperature": "12.34:12.34:cosine", "ca": "paper", "lr": 0.000123}
    sizes = {}
    for k in search.k:
        for bits in search.bits:
            sizes[k, bits] = smallest_budget(Choice(kind="search", k=k, bits=bits, **longest), shared)  # type: ignore[arg-type]
    spaces = []
    for budget in budgets:
        fitting = tuple(sorted(codec for codec, size in sizes.items() if size <= budget))
        if not fitting:
            smallest = min(sizes, key=sizes.__getitem__)
            raise ConfigError(
                f"budget {format_bytes(budget)} is smaller than one label per image; the smallest that works is "
                f"{sizes[smallest]} bytes (k={smallest[0]}, {smallest[1]} bits). Raise --budget, or add smaller "
                f"search.k or search.bits"
            )
        spaces.append(Space(budget, fitting, search))
    return spaces


class BudgetSearch(Searcher):
    """One Optuna study per budget, asked in turn: a common one would drift to the largest budget."""

    def __init__(self, spaces: list[Space], trials: int, first_points: list[list[dict[str, Any]]], seed: int) -> None:
        super().__init__(metric=METRIC, mode=MODE)
        self._trials = trials
        self._studies = {}
        for space, points in zip(spaces, first_points, strict=True):
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, trials // 3))
            # Early stopping is Tune's; what a study sees of a stopped trial is its last value.
            self._studies[space.budget] = OptunaSearch(
                space=space, metric=METRIC, mode=MODE, sampler=sampler, points_to_evaluate=points[:trials]
            )
        self._num_suggested = {space.budget: 0 for space in spaces}
        self._budget_of: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial of the budget that has had the fewest."""
        budget = min(self._num_suggested, key=lambda budget: self._num_suggested[budget])
        if self._num_suggested[budget] >= self._trials:
            return Searcher.FINISHED
        suggestion = self._studies[budget].suggest(trial_id)
        if not isinstance(suggestion, dict):
            return suggestion
        self._num_suggested[budget] += 1
        self._budget_of[trial_id] = budget
        return {**suggestion, "budget": budget}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the trial's study."""
        self._studies[self._budget_of[trial_id]].on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's study."""
        self._studies[self._budget_of[trial_id]].on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Everything that a resumed search needs."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """The inverse of `save`; the file is one that this sweep wrote."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))


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

    def save(self, checkpoint_path: str) -> None:
        """Everything that a resumed search needs."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """The inverse of `save`; the file is one that this sweep wrote."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))
