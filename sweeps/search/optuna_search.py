"""Which trial is next: budgets never compete for trials."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from lpqld.errors import DataError
from lpqld.storage import write_atomically
from sweeps.config import SearchConfig
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.spaces import Space
from sweeps.search.suggested import choice_of
from sweeps.search.trial import METRIC, MODE


class BudgetSearch(Searcher):
    """One Optuna study per budget, asked in turn: a common one would drift to the largest budget.

    Good temperatures, calibrations and learning rates are alike at all budgets: every third trial of a budget, once it
    has had its first points, is the best of another one, nearest first, that it has not had itself.
    """

    def __init__(
        self, spaces: list[Space], config: SearchConfig, first_params: list[list[dict[str, Any]]], seed: int
    ) -> None:
        """A search of `spaces`, one a budget, that begins each with its own `first_params`."""
        super().__init__(metric=METRIC, mode=MODE)
        self._spaces, self._trials = {space.budget: space for space in spaces}, config.trials
        self._shares = config.sampler == "tpe"
        self._studies: dict[int, optuna.Study] = {}
        self._num_first: dict[int, int] = {}
        for index, (space, params) in enumerate(zip(spaces, first_params, strict=True)):
            own_seed = seed * len(spaces) + index  # else all budgets would begin with the same draws
            self._studies[space.budget] = _new_study(config, own_seed, params if self._shares else [])
            self._num_first[space.budget] = len(params)
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
    def ended(self) -> list[SearchedLabels]:
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
            params = self._best_of_others(budget)
            if params is not None:
                study.enqueue_trial(params)
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


def _new_study(config: SearchConfig, seed: int, first_params: list[dict[str, Any]]) -> optuna.Study:
    """The study of one budget, with the parameters to begin with in its queue."""
    sampler: optuna.samplers.BaseSampler
    if config.sampler == "tpe":
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(3, config.trials // 3))
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for params in first_params[: config.trials]:
        study.enqueue_trial(params)
    return study
