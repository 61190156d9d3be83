"""Ray Tune around `trial.run_trial`: one Optuna study per budget, early stopping among trials of one budget."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import optuna
import ray
from ray import ObjectRef, tune
from ray.exceptions import RayTaskError
from ray.tune.search import ConcurrencyLimiter

from lpqld.errors import DataError, LpqldError
from lpqld.storage import sweep_temporary_files
from sweeps.cluster import TrialResources, as_completed, node_resources, use_assigned_resources
from sweeps.config import PaperConfig, SearchConfig
from sweeps.search.asha_per_budget import BudgetScheduler
from sweeps.search.choice import Choice, Shared
from sweeps.search.folder import TRIALS_FOLDER
from sweeps.search.optuna_search import BudgetSearch
from sweeps.search.spaces import Space, choice_of
from sweeps.search.trial import METRIC, TrialResult, result_path, run_trial

# What all trials read, in Ray's object store: the processes of a node read one copy. See `Shared.prepared`.
Data: TypeAlias = "ObjectRef[Shared]"

_SEARCH_SEED = 0
_STATE_FILE = "search.pkl"


class _Watch(tune.Callback):
    """Tells the driver of every trial that ends, and ends the search at a mistake that a retry cannot mend.

    Tune pickles its callbacks with the experiment, so the function that listens stays in the process that has it, and
    so does the mistake that was found.
    """

    listeners: ClassVar[dict[str, Callable[[TrialResult], None]]] = {}
    mistakes: ClassVar[dict[str, LpqldError]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # this process has just written it
        if isinstance(error, RayTaskError) and isinstance(error.cause, LpqldError):
            self.mistakes[self._folder] = error.cause
            raise error.cause  # Tune ends as if it had been killed: the trial is made again when the search is

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        path = result_path(Path(self._folder), choice_of(trial.config), _SEARCH_SEED)
        listener = self.listeners.get(self._folder)
        if listener is not None and (result := TrialResult.kept(path)) is not None:
            listener(result)


def _tune_trial(config: dict[str, Any], data: list[Data], folder: str, cpus: float) -> None:
    """What a Tune worker runs."""
    shared = ray.get(data[0])
    device = use_assigned_resources(cpus)

    def report(result: TrialResult) -> None:
        tune.report({METRIC: result.val_accuracy, "finished": result.finished, "label_bytes": result.label_bytes})

    run_trial(choice_of(config), shared, _SEARCH_SEED, Path(folder), device=device, on_rung=report)


def search(
    data: Data,
    spaces: list[Space],
    config: SearchConfig,
    paper: PaperConfig,
    wanted: TrialResources,
    folder: Path,
    *,
    seed: int,
    on_result: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Run every trial of every budget; one that ended before an interruption is not run again.

    Args:
        data: what all trials read; those of a node share one copy.
        wanted: what a trial holds of a node.
        folder: Tune's state and the trials' results live here.
        on_result: called in this process with every result, also with those of before an interruption.

    Returns:
        One result per trial, stopped ones too.

    Raises:
        LpqldError: a trial failed, with its reason.
        DataError: what an earlier run kept of the search is damaged or gone.
        ConfigError: no node has room for a trial; or a trial's own, as is a DataError: Tune tries others again, twice.
    """
    concurrent = wanted.at_once(node_resources())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Tune would take Ctrl-C for "report what there is": a sweep would go on to confirm a search that was cut short.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # `BudgetSearch` keeps the search's state. Tune's own snapshots would be copied while the next one is written.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)
    folder = folder.absolute()
    results_folder, tune_folder = folder / TRIALS_FOLDER, folder / "tune"
    results_folder.mkdir(parents=True, exist_ok=True)
    for interrupted in (folder, results_folder):
        sweep_temporary_files(interrupted)
    shared = ray.get(data)
    points = [space.first_points(paper, shared.images.num_classes, shared.recipe) for space in spaces]
    suggested = BudgetSearch(spaces, config, points, seed).kept_at(folder / _STATE_FILE)
    trainable = tune.with_resources(
        # In a list, the data stay where they are: Tune copies what it is given itself.
        tune.with_parameters(_tune_trial, data=[data], folder=str(results_folder), cpus=wanted.cpus),
        {"cpu": wanted.cpus, "gpu": wanted.gpus},
    )
    announced: set[str] = set()

    def announce(result: TrialResult) -> None:
        if result.choice.trial_id not in announced:
            announced.add(result.choice.trial_id)
            on_result(result)

    def ended() -> list[TrialResult]:
        results = [_kept_result(choice, results_folder) for choice in suggested.ended]
        for result in results:
            announce(result)
        return results

    scheduler = BudgetScheduler(tuple(space.budget for space in spaces)) if config.early_stopping else None
    earlier = ended()
    if suggested.is_finished:
        return earlier
    if scheduler is not None:
        for result in earlier:
            scheduler.remember(result)
    _Watch.listeners[str(results_folder)] = announce
    shutil.rmtree(tune_folder, ignore_errors=True)  # only what Tune itself noted of an earlier run
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(suggested, concurrent),
            scheduler=scheduler,
            num_samples=config.trials * len(spaces),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(tune_folder),
            verbose=0,
            callbacks=[_Watch(results_folder)],
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    try:
        grid = tuner.fit()
    except Exception:
        if mistake := _Watch.mistakes.pop(str(results_folder), None):
            raise mistake from None
        raise
    if grid.errors:
        reason = str(grid.errors[0]).strip().splitlines()[-1]
        raise LpqldError(
            f"{len(grid.errors)} trials failed, the first with: {reason}. Finished ones are kept; run the command again"
        )
    return ended()


def _kept_result(choice: Choice, folder: Path) -> TrialResult:
    path = result_path(folder, choice, _SEARCH_SEED)
    if (result := TrialResult.kept(path)) is None:
        raise DataError(
            f"{path}: a trial of this search ended and left its result there, which is gone or damaged. Put it back, or"
            f" delete {folder.parent / _STATE_FILE}: the search begins anew with the results that are there"
        )
    return result


@ray.remote(max_retries=2)
def _train_one(choice: Choice, seed: int, shared: Shared, folder: str, cpus: float) -> TrialResult:
    device = use_assigned_resources(cpus)
    return run_trial(choice, shared, seed, Path(folder), device=device, with_test=True)


def confirm(
    choices: list[Choice],
    seeds: range,
    data: Data,
    wanted: TrialResources,
    folder: Path,
    *,
    on_result: Callable[[TrialResult], None],
) -> dict[str, list[TrialResult]]:
    """Train every choice over `seeds` and read the test set once each: results by trial id.

    Trainings that finished before are read, not repeated.

    Raises:
        ConfigError: no node has room for a training; or its own, as is a DataError.
    """
    wanted.at_once(node_resources())
    results_folder = folder.absolute() / TRIALS_FOLDER
    results_folder.mkdir(parents=True, exist_ok=True)
    remote = _train_one.options(num_cpus=wanted.cpus, num_gpus=wanted.gpus)
    pending = [
        remote.remote(choice, seed, data, str(results_folder), wanted.cpus) for choice in choices for seed in seeds
    ]
    results: dict[str, list[TrialResult]] = {choice.trial_id: [] for choice in choices}
    for _, result in as_completed(pending):
        results[result.choice.trial_id].append(result)
        on_result(result)
    return {trial_id: sorted(found, key=lambda result: result.seed) for trial_id, found in results.items()}
