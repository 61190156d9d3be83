"""Ray Tune around `trial.run_trial`: one Optuna study per budget, early stopping among trials of one budget."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from lpqld.errors import ConfigError, LpqldError
from lpqld.sizes import format_bytes
from sweeps.cluster import num_cpus, num_gpus, use_assigned_resources
from sweeps.config import PaperConfig, ResourcesConfig, SearchConfig
from sweeps.trial import NUM_RUNGS, Choice, Shared, TrialResult, result_path, run_trial, smallest_budget

METRIC, MODE = "val_accuracy", "max"
_SEARCH_SEED = 0
_MOST_GPU_SHARES = 4


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


class _OnComplete(tune.Callback):
    """Tells the driver of every trial that ends.

    Tune pickles its callbacks with the experiment, so the function that listens stays in the process that has it.
    """

    listeners: ClassVar[dict[str, Callable[[TrialResult], None]]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        path = result_path(Path(self._folder), choice_of(trial.config), _SEARCH_SEED)
        listener = self.listeners.get(self._folder)
        if listener is not None and path.is_file():
            listener(TrialResult.load(path))


def _tune_trial(config: dict[str, Any], shared: Shared, folder: str, cpus: float) -> None:
    """What a Tune worker runs."""
    device = use_assigned_resources(cpus)

    def report(result: TrialResult) -> None:
        tune.report({METRIC: result.val_accuracy, "finished": result.finished, "label_bytes": result.label_bytes})

    run_trial(choice_of(config), shared, _SEARCH_SEED, Path(folder), device=device, on_rung=report)


def trial_resources(resources: ResourcesConfig) -> dict[str, float]:
    """What Ray sets aside for a trial: CPUs, and a share of a GPU where there are any."""
    gpus = resources.gpus_per_trial
    if gpus is None:
        gpus = 1 / _MOST_GPU_SHARES if num_gpus() else 0
    return {"cpu": resources.cpus_per_trial, "gpu": gpus}


def search(
    shared: Shared,
    spaces: list[Space],
    config: SearchConfig,
    paper: PaperConfig,
    resources: ResourcesConfig,
    folder: Path,
    *,
    seed: int,
    on_result: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Run every trial of every budget; one that ended before an interruption is not run again.

    Args:
        folder: Tune's state and the trials' results live here.
        on_result: called in this process with every result, also with those of before an interruption.

    Returns:
        One result per trial, stopped ones too.

    Raises:
        LpqldError: a trial failed, with its reason.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tune would take Ctrl-C for "report what there is": a sweep would go on to confirm a search that was cut short.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Tune keeps its state every ten seconds; what it suggested since would be replaced by other trials after a kill -9.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "0"
    folder = folder.absolute()
    results_folder, tune_folder = folder / "trials", folder / "tune"
    results_folder.mkdir(parents=True, exist_ok=True)
    cpus = resources.cpus_per_trial
    wanted = trial_resources(resources)
    concurrent = max(1, int(num_cpus() / cpus))
    trainable = tune.with_resources(
        tune.with_parameters(_tune_trial, shared=shared, folder=str(results_folder), cpus=cpus), wanted
    )
    done: set[str] = set()

    def announce(result: TrialResult) -> None:
        if result.choice.trial_id not in done:
            done.add(result.choice.trial_id)
            on_result(result)

    callback = _OnComplete(results_folder)
    _OnComplete.listeners[str(results_folder)] = announce
    if tune.Tuner.can_restore(str(tune_folder / "search")):
        tuner = tune.Tuner.restore(
            str(tune_folder / "search"), trainable=trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        num_classes, lr = shared.images.num_classes, shared.recipe.lr
        points = [space.first_points(paper, num_classes, lr) for space in spaces]
        budgets = tuple(space.budget for space in spaces)
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(BudgetSearch(spaces, config.trials, points, seed), concurrent),
                scheduler=BudgetScheduler(budgets) if config.early_stopping else None,
                num_samples=config.trials * len(spaces),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(tune_folder),
                verbose=0,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
    grid = tuner.fit()
    if grid.errors:
        reason = str(grid.errors[0]).strip().splitlines()[-1]
        raise LpqldError(
            f"{len(grid.errors)} trials failed, the first with: {reason}. Finished ones are kept; run the command again"
        )
    results = []
    for outcome in grid:
        if outcome.config is None:
            continue
        path = result_path(results_folder, choice_of(outcome.config), _SEARCH_SEED)
        results.append(TrialResult.load(path))
        announce(results[-1])
    return results


@ray.remote(max_retries=2)
def _train_one(choice: Choice, seed: int, shared: Shared, folder: str, cpus: float) -> TrialResult:
    device = use_assigned_resources(cpus)
    return run_trial(choice, shared, seed, Path(folder), device=device, with_test=True)


def confirm(
    choices: list[Choice],
    seeds: range,
    shared: Shared,
    resources: ResourcesConfig,
    folder: Path,
    *,
    on_result: Callable[[TrialResult], None],
) -> dict[str, list[TrialResult]]:
    """Train every choice over `seeds` and read the test set once each: results by trial id.

    Trainings that finished before are read, not repeated.
    """
    results_folder = folder.absolute() / "trials"
    results_folder.mkdir(parents=True, exist_ok=True)
    wanted = trial_resources(resources)
    remote = _train_one.options(num_cpus=wanted["cpu"], num_gpus=wanted["gpu"])
    data = ray.put(shared)
    pending = [
        remote.remote(choice, seed, data, str(results_folder), resources.cpus_per_trial)
        for choice in choices
        for seed in seeds
    ]
    results: dict[str, list[TrialResult]] = {choice.trial_id: [] for choice in choices}
    while pending:
        ready, pending = ray.wait(pending)
        for result in ray.get(ready):
            results[result.choice.trial_id].append(result)
            on_result(result)
    return {trial_id: sorted(found, key=lambda result: result.seed) for trial_id, found in results.items()}
