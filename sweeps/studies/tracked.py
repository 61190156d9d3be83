"""A study in MLflow: one parent run, a child run a case, table and figure as artifacts."""

from __future__ import annotations

from pathlib import Path

from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint
from sweeps.config import StudyConfig
from sweeps.studies.report import FIGURE_FILE, RESULT_FILE, TABLE_FILE, markdown, write_report
from sweeps.studies.results import CaseResult
from sweeps.studies.run import run_study
from sweeps.studies.study import Study
from sweeps.tracking import CONFIG_TAG, Experiment, Tracker


def study_recorded(
    study: Study,
    config: StudyConfig,
    root: Path,
    *,
    progress: Progress,
) -> list[CaseResult]:
    """`run_study` with a table, a figure and a record; arguments and errors are the same."""
    folder = root / "studies" / study.name
    tracker = Tracker(Experiment.open(root, f"study-{study.name}"))
    settings = config.model_dump(mode="json")
    tags = {CONFIG_TAG: fingerprint(canonical_json(settings)), "lpqld.about": study.about}
    tracker.start_parent(settings, tags, kind="study")
    with tracker.finishing():
        results = run_study(study, config, root, progress=progress)
        tracker.keep_trials({_log(tracker, result) for result in results})
        write_report(study, results, folder)
        files = [folder / file for file in (TABLE_FILE, FIGURE_FILE, RESULT_FILE)]
        tracker.log_files(files, markdown(study, results))
    return results


def _log(tracker: Tracker, result: CaseResult) -> str:
    """The id of the trial that records the result."""
    metrics = {
        "accuracy": result.accuracy.mean,
        "accuracy_std": result.accuracy.std,
        "val_accuracy": result.val_accuracy.mean,
        "class_accuracy": None if result.class_accuracy is None else result.class_accuracy.mean,
        "label_bytes": result.label_bytes,
        "image_bytes": result.image_bytes,
        "entropy": result.entropy,
        "expert_accuracy": result.expert_accuracy,
    }
    params = result.case.params
    # Experts or images behind the same settings may have changed: then it is another trial.
    trial_id = fingerprint(canonical_json([params, metrics]))[:12]
    tracker.log_trial(trial_id, str(result.case), params, {}, metrics)
    return trial_id
