"""Hears of Tune's trials: tells the driver of those that end, and ends a search at a mistake that is no bad luck."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError

from lpqld.errors import LpqldError

TrialEnded = Callable[[dict[str, Any]], None]


class TrialWatch(tune.Callback):
    """Calls `on_end` with the parameters of every trial that ends, and ends the search at one of our own errors.

    Tune would try such a trial again, which cannot mend it.

    Attributes:
        mistake: the error that ended the search.
    """

    def __init__(self, on_end: TrialEnded) -> None:
        self._on_end: TrialEnded | None = on_end
        self.mistake: LpqldError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the listener: Tune pickles its callbacks with the experiment, and who listens is of this process."""
        return {**self.__dict__, "_on_end": None}

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """End the search as if it had been killed: the trial is made again when the search is."""
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # this process has just written it
        if isinstance(error, RayTaskError) and isinstance(error.cause, LpqldError):
            self.mistake = error.cause
            raise error.cause

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell of a trial that ended, also of one that was stopped."""
        if self._on_end is not None:
            self._on_end(trial.config)
