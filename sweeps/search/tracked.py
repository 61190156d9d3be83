"""A sweep in MLflow: one parent run that describes it, a child run for every trial that ends."""

from __future__ import annotations

from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint
from sweeps.report import environment
from sweeps.search.job import SweepJob
from sweeps.search.masters import SharedData
from sweeps.search.trial import TrialResult
from sweeps.tracking import Experiment, Tracker


def start_tracking(job: SweepJob, data: SharedData) -> Tracker:
    """The sweep's parent run, or the one of before an interruption, with the sweep's parameters and data."""
    tracker = Tracker(Experiment.open(job.root, job.config.name))
    shared = data.shared
    document = job.config.model_dump(mode="json", exclude={"resources"})
    sizes = {"all_label_bytes": data.all_label_bytes, "image_bytes": shared.images.image_bytes}
    tags = {
        "lpqld.config": fingerprint(canonical_json(document)),
        "lpqld.images": shared.images.fingerprint,
        "lpqld.validation": shared.validation.fingerprint,
        "lpqld.test": shared.test.fingerprint,
        "lpqld.teacher": data.about_teacher["fingerprint"],
    }
    tracker.start_parent({**document, **sizes, **environment()}, tags)
    return tracker


class TrialLog:
    """Counts the results of a phase, and logs each as a child run."""

    def __init__(self, progress: Progress, tracker: Tracker) -> None:
        """Tell `progress` of every result, and log it with `tracker`."""
        self._progress, self._tracker = progress, tracker
        self._phase, self._num_done, self._num_trials = "", 0, 0

    def start(self, phase: str, num_trials: int) -> None:
        """A new phase with so many results to come."""
        self._phase, self._num_done, self._num_trials = phase, 0, num_trials
        self._progress.progress(phase, 0, num_trials)

    def add(self, result: TrialResult) -> None:
        """One more result."""
        self._num_done += 1
        choice, seed = result.choice, result.seed
        self._tracker.log_trial(
            f"{choice.trial_id}-seed{seed}",
            f"{self._phase} {choice.trial_id} seed {seed}",
            {**result.config, "budget": choice.budget, "seed": seed, "phase": self._phase},
            [vars(metrics) for metrics in result.history],
            _final_metrics(result),
            tags={"lpqld.kind": choice.kind, "lpqld.stopped_early": str(not result.finished)},
        )
        self._progress.progress(self._phase, self._num_done, self._num_trials)


def _final_metrics(result: TrialResult) -> dict[str, float | None]:
    """The numbers of a trial as a whole; the test accuracy is None where the test set was not read."""
    return {
        "label_bytes": result.label_bytes,
        "final_val_accuracy": result.val_accuracy,
        "prune_ratio": result.prune_ratio,
        "seconds": result.seconds,
        "test_accuracy": result.test_accuracy,
    }
