"""What a worker of Ray Tune runs: one trial of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray import tune

from sweeps.cluster import use_assigned_resources
from sweeps.search.shared import SharedRef
from sweeps.search.suggested import choice_of
from sweeps.search.trial import METRIC, TrialResult, run_trial

SEARCH_SEED = 0  # of the students of a search


def run_suggested(config: dict[str, Any], data: list[SharedRef], folder: str, cpus: float) -> None:
    """Train the student of the params that Tune suggests, telling it of every rung."""
    shared = ray.get(data[0])
    device = use_assigned_resources(cpus)

    def report(result: TrialResult) -> None:
        tune.report({METRIC: result.val_accuracy, "finished": result.finished, "label_bytes": result.label_bytes})

    run_trial(choice_of(config), shared, SEARCH_SEED, Path(folder), device=device, on_rung=report)
