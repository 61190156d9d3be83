"""Which trial stops: comparisons within a budget only."""

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from lpqld.training.loop import EpochMetrics
from sweeps.search.asha_per_budget import BudgetScheduler
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.trial import TrialResult

BUDGETS = (6000, 2600)


class TestEarlyStopping:
    """The scheduler with Tune's own trials: a result of (budget, accuracy) at a rung, and what is decided."""

    def decide(self, scheduler: BudgetScheduler, budget: int, accuracy: float, rung: int = 3) -> str:
        trial = Trial("trial", config={"budget": budget}, stub=True)
        scheduler.on_trial_add(None, trial)
        result = {"val_accuracy": accuracy, "training_iteration": rung, "finished": False}
        return scheduler.on_trial_result(None, trial, result)

    def test_small_budgets_are_not_compared_with_large_ones(self):
        scheduler = BudgetScheduler(BUDGETS)
        assert [self.decide(scheduler, 6000, accuracy) for accuracy in (0.9, 0.92, 0.94)] == [
            TrialScheduler.CONTINUE
        ] * 3
        assert self.decide(scheduler, 2600, 0.2) == TrialScheduler.CONTINUE

    def test_lower_half_of_a_budget_stops(self):
        scheduler = BudgetScheduler(BUDGETS)
        for accuracy in (0.5, 0.6, 0.7):
            self.decide(scheduler, 2600, accuracy)
        assert self.decide(scheduler, 2600, 0.1) == TrialScheduler.STOP
        assert self.decide(scheduler, 2600, 0.8) == TrialScheduler.CONTINUE
        assert self.decide(scheduler, 6000, 0.1) == TrialScheduler.CONTINUE

    def test_finished_trial_is_never_stopped(self):
        scheduler = BudgetScheduler(BUDGETS)
        for accuracy in (0.5, 0.6, 0.7):
            self.decide(scheduler, 2600, accuracy, rung=10)
        trial = Trial("trial", config={"budget": 2600}, stub=True)
        scheduler.on_trial_add(None, trial)
        result = {"val_accuracy": 0.0, "training_iteration": 10, "finished": True}
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE

    def test_trials_of_before_an_interruption_count(self):
        scheduler = BudgetScheduler(BUDGETS)
        for index, accuracy in enumerate((0.5, 0.6, 0.7)):
            history = tuple(
                EpochMetrics(epoch, 1.0, 1.0, 1.0, 0.1, accuracy if epoch % 2 else None) for epoch in range(8)
            )
            choice = SearchedLabels(budget=2600, k=2, bits=4, temperature=str(index))
            scheduler.remember(TrialResult(choice, 0, 1, 1, 1, 0.0, accuracy, None, 1.0, True, history))
        assert self.decide(scheduler, 6000, 0.1) == TrialScheduler.CONTINUE
        assert self.decide(scheduler, 2600, 0.1) == TrialScheduler.STOP
        assert self.decide(scheduler, 2600, 0.8) == TrialScheduler.CONTINUE
