"""A study in MLflow: one parent run, a child run a case, table and figure as artifacts."""

from __future__ import annotations

from pathlib import Path

from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint
from sweeps.config import StudyConfig
from sweeps.studies.cases import STUDIES
from sweeps.studies.report import FIGURE_FILE, RESULT_FILE, TABLE_FILE, markdown, write_report
from sweeps.studies.run import Finding, run_study
from sweeps.tracking import CONFIG_TAG, Experiment, Tracker


def study_recorded(
    name: str,
    config: StudyConfig,
    root: Path,
    *,
    progress: Progress,
) -> list[Finding]:
    """`run_study` with a table, a figure and a record; arguments and errors are the same."""
    folder = root / "studies" / name
    tracker = Tracker(Experiment.open(root, f"study-{name}"))
    settings = config.model_dump(mode="json")
    tags = {CONFIG_TAG: fingerprint(canonical_json(settings)), "lpqld.about": STUDIES[name].about}
    tracker.start_parent(settings, tags, kind="study")
    with tracker.finishing():
        findings = run_study(name, config, root, progress=progress)
        told = set[str]()
        for finding in findings:
            metrics = {
                "accuracy": finding.accuracy.mean,
                "accuracy_std": finding.accuracy.std,
                "val_accuracy": finding.val_accuracy.mean,
                "class_accuracy": None if finding.class_accuracy is None else finding.class_accuracy.mean,
                "label_bytes": finding.label_bytes,
                "image_bytes": finding.image_bytes,
                "entropy": finding.entropy,
                "expert_accuracy": finding.expert_accuracy,
            }
            # Experts or images behind the same settings may have changed: then it is another trial.
            trial_id = fingerprint(canonical_json([finding.case.params, metrics]))[:12]
            tracker.log_trial(trial_id, str(finding.case), finding.case.params, {}, metrics)
            told.add(trial_id)
        tracker.keep_trials(told)
        write_report(name, findings, folder)
        files = [folder / file for file in (TABLE_FILE, FIGURE_FILE, RESULT_FILE)]
        tracker.log_files(files, markdown(name, findings))
    return findings
