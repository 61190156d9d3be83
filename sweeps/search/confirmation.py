"""Choices trained over several seeds, each student's accuracy on the test set read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import ray

from sweeps.cluster import TrialResources, as_completed, node_resources, use_assigned_resources
from sweeps.search.choice import Choice
from sweeps.search.folder import TRIALS_FOLDER
from sweeps.search.shared import Shared, SharedRef
from sweeps.search.trial import TrialResult, run_trial


@ray.remote(max_retries=2)
def _train_one(choice: Choice, seed: int, shared: Shared, folder: str, cpus: float) -> TrialResult:
    device = use_assigned_resources(cpus)
    return run_trial(choice, shared, seed, Path(folder), device=device, with_test=True)


def confirm(
    choices: Sequence[Choice],
    seeds: range,
    data: SharedRef,
    wanted: TrialResources,
    folder: Path,
    *,
    on_result: Callable[[TrialResult], None],
) -> dict[str, list[TrialResult]]:
    """Train every choice over `seeds` and read the test set once each: results by trial id, in the order of seeds.

    Trainings that finished before are read, not repeated.

    Args:
        choices: to train.
        seeds: of the students.
        data: what all trials read.
        wanted: what a training holds of a node.
        folder: the sweep's.
        on_result: called in this process with every result.

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
    return {trial_id: sorted(of_seeds, key=lambda result: result.seed) for trial_id, of_seeds in results.items()}
