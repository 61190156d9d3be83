"""Which trial stops: accuracies of different budgets are never compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sweeps.search.trial import METRIC, MODE, NUM_RUNGS, TrialResult


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
