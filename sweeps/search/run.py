"""Ray Tune around `trial.run_trial`: one Optuna study per budget, early stopping among trials of one budget."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.search import ConcurrencyLimiter

from lpqld.errors import DataError, LpqldError
from lpqld.storage import sweep_temporary_files
from sweeps.cluster import TrialResources, node_resources
from sweeps.config import PaperConfig, SearchConfig
from sweeps.search.asha_per_budget import BudgetScheduler
from sweeps.search.choice import Choice
from sweeps.search.folder import TRIALS_FOLDER
from sweeps.search.optuna_search import BudgetSearch
from sweeps.search.shared import Shared, SharedRef
from sweeps.search.spaces import Space
from sweeps.search.suggested import choice_of
from sweeps.search.trial import TrialResult, result_path
from sweeps.search.trial_watch import TrialWatch
from sweeps.search.tuned import SEARCH_SEED, run_suggested

_STATE_FILE, _TUNE_FOLDER = "search.pkl", "tune"
_TUNE_ENVIRONMENT = {
    # Tune would take Ctrl-C for "report what there is": a sweep would go on to confirm a search that was cut short.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # `BudgetSearch` keeps the search's state. Tune's own snapshots would be copied while the next one is written.
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
}


def search(
    data: SharedRef,
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
        spaces: what trials choose from, one a budget.
        config: of the search.
        paper: whose setting is among the first trials.
        wanted: what a trial holds of a node.
        folder: Tune's state and the trials' results live here.
        seed: of the samplers.
        on_result: called in this process with every result, also with those of before an interruption.

    Returns:
        One result per trial, stopped ones too.

    Raises:
        LpqldError: a trial failed, with its reason.
        DataError: what an earlier run kept of the search is damaged or gone.
        ConfigError: no node has room for a trial; or a trial's own, as is a DataError: Tune tries others again, twice.
    """
    concurrent = wanted.at_once(node_resources())
    folder = folder.absolute()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _prepare(folder)
    suggestions = _suggestions(ray.get(data), spaces, config, paper, folder, seed)
    results = _Results(suggestions, folder / TRIALS_FOLDER, on_result)
    earlier = results.ended()
    if suggestions.is_finished:
        return earlier
    watch = TrialWatch(results.announce_trial)
    run_config = tune.RunConfig(
        name="search",
        storage_path=str(folder / _TUNE_FOLDER),
        verbose=0,
        callbacks=[watch],
        failure_config=tune.FailureConfig(max_failures=2),
    )
    tune_config = tune.TuneConfig(
        search_alg=ConcurrencyLimiter(suggestions, concurrent),
        scheduler=_scheduler(spaces, earlier) if config.early_stopping else None,
        num_samples=config.trials * len(spaces),
        reuse_actors=True,
    )
    with _environment(_TUNE_ENVIRONMENT):
        shutil.rmtree(folder / _TUNE_FOLDER, ignore_errors=True)  # only what Tune itself noted of an earlier run
        trainable = _trainable(data, folder / TRIALS_FOLDER, wanted)
        _fit(tune.Tuner(trainable, tune_config=tune_config, run_config=run_config), watch)
    return results.ended()


def _prepare(folder: Path) -> None:
    """Make a place for results in a sweep's folder, and remove what is half written."""
    results_folder = folder / TRIALS_FOLDER
    results_folder.mkdir(parents=True, exist_ok=True)
    for interrupted in (folder, results_folder):
        sweep_temporary_files(interrupted)


def _suggestions(
    shared: Shared, spaces: list[Space], config: SearchConfig, paper: PaperConfig, folder: Path, seed: int
) -> BudgetSearch:
    """What to try next, going on from what `folder` keeps."""
    first_params = [space.first_params(paper, shared.images.num_classes, shared.recipe) for space in spaces]
    return BudgetSearch(spaces, config, first_params, seed).kept_at(folder / _STATE_FILE)


def _scheduler(spaces: list[Space], earlier: list[TrialResult]) -> BudgetScheduler:
    """Early stopping that knows of the trials that ended before an interruption."""
    scheduler = BudgetScheduler(tuple(space.budget for space in spaces))
    for result in earlier:
        scheduler.remember(result)
    return scheduler


def _trainable(data: SharedRef, results_folder: Path, wanted: TrialResources) -> Any:
    """What Tune runs for every trial."""
    return tune.with_resources(
        # In a list, the data stay where they are: Tune copies what it is given itself.
        tune.with_parameters(run_suggested, data=[data], folder=str(results_folder), cpus=wanted.cpus),
        {"cpu": wanted.cpus, "gpu": wanted.gpus},
    )


def _fit(tuner: tune.Tuner, watch: TrialWatch) -> None:
    """Run the search; what ended it early is raised as our own error."""
    try:
        grid = tuner.fit()
    except Exception:
        if watch.mistake is not None:
            raise watch.mistake from None
        raise
    if grid.errors:
        reason = str(grid.errors[0]).strip().splitlines()[-1]
        raise LpqldError(
            f"{len(grid.errors)} trials failed, the first with: {reason}. Finished ones are kept; run the command again"
        )


class _Results:
    """The kept results of a search's trials, each announced once."""

    def __init__(self, suggestions: BudgetSearch, folder: Path, on_result: Callable[[TrialResult], None]) -> None:
        self._suggestions, self._folder, self._on_result = suggestions, folder, on_result
        self._announced: set[str] = set()

    def ended(self) -> list[TrialResult]:
        """The results of all trials that ended.

        Raises:
            DataError: one is gone or damaged.
        """
        results = [self._kept(choice) for choice in self._suggestions.ended]
        for result in results:
            self._announce(result)
        return results

    def announce_trial(self, config: dict[str, Any]) -> None:
        """Announce the result of a trial that has just ended, given its parameters."""
        result = TrialResult.kept(result_path(self._folder, choice_of(config), SEARCH_SEED))
        if result is not None:
            self._announce(result)

    def _announce(self, result: TrialResult) -> None:
        if result.choice.trial_id not in self._announced:
            self._announced.add(result.choice.trial_id)
            self._on_result(result)

    def _kept(self, choice: Choice) -> TrialResult:
        path = result_path(self._folder, choice, SEARCH_SEED)
        result = TrialResult.kept(path)
        if result is None:
            raise DataError(
                f"{path}: a trial of this search ended and left its result there, which is gone or damaged. Put it "
                f"back, or delete {self._folder.parent / _STATE_FILE}: the search begins anew with the results that "
                f"are there"
            )
        return result


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there before."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
