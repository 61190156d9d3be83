"""MLflow, written by the driver alone: one parent run a sweep, one child run a trial, the report as artifacts.

A resumed sweep finds its parent by its configuration and its trials by their ids, and adds only what is missing.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lpqld.storage import canonical_json, fingerprint
from sweeps.report import IMAGES_FILE, REPORT_FILES, TEMPERATURES_FILE, SweepResult, markdown, table
from sweeps.tracking.experiment import KIND_TAG, Experiment, texts

if TYPE_CHECKING:
    from mlflow.entities import Run

CONFIG_TAG = "lpqld.config"
TRIAL_TAG = "lpqld.trial_id"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
TABLE_FILE = "front_table.json"

History: TypeAlias = Mapping[str, Sequence[float]] | Sequence[Mapping[str, float | None]]


class Tracker:
    """The record of one sweep in MLflow; open it in one process only."""

    def __init__(self, experiment: Experiment) -> None:
        """`experiment`: the sweep's."""
        self.parent_id: str | None = None
        self.experiment, self._client = experiment, experiment.client
        self._children: dict[str, Run] = {}

    def start_parent(self, params: Mapping[str, Any], tags: Mapping[str, Any], kind: str = "sweep") -> str:
        """Start a sweep's or a study's run, or continue the one with the same `lpqld.config` tag; returns its id.

        Without that tag in `tags`, the fingerprint of `params` stands for the configuration.
        """
        config = str(tags.get(CONFIG_TAG) or fingerprint(canonical_json(texts(params))))
        all_tags = {**tags, CONFIG_TAG: config, KIND_TAG: kind, "mlflow.source.name": f"lpqld {kind}"}
        runs = self.experiment.search(f"tags.`{KIND_TAG}` = '{kind}'")
        parent = next((run for run in runs if run.data.tags.get(CONFIG_TAG) == config), None)
        if parent is None:
            parent = self.experiment.new_run(self.experiment.name, all_tags)
        else:
            self._client.update_run(parent.info.run_id, status="RUNNING")
            self.experiment.set_tags(parent.info.run_id, all_tags)
        run_id: str = parent.info.run_id
        self.parent_id = run_id
        self.experiment.log_params(run_id, params, known=parent.data.params)
        # Newest first: of two runs of one trial the later one counts.
        children = self.experiment.search(f"tags.`{PARENT_TAG}` = '{run_id}'")
        self._children = {run.data.tags[TRIAL_TAG]: run for run in reversed(children) if TRIAL_TAG in run.data.tags}
        return run_id

    def log_trial(
        self,
        trial_id: str,
        name: str,
        params: Mapping[str, Any],
        history: History,
        metrics: Mapping[str, float | None],
        *,
        tags: Mapping[str, Any] | None = None,
        status: str = "FINISHED",
    ) -> str:
        """Record a trial as a child run and return the run's id; a trial that is recorded as finished is left alone.

        Args:
            trial_id: identifies the trial within the sweep.
            name: what the UI shows.
            params: may be nested; keys are joined by dots.
            history: per epoch, either columns (`{"loss": [...]}`, epochs counted from 0) or one record an epoch,
                whose `epoch` is the step. None is left out; NaN is kept.
            metrics: final numbers; None is left out.
            tags: further tags.
            status: FINISHED, FAILED, KILLED or RUNNING. Anything but FINISHED is replaced by the next call.
        """
        parent_id = self._parent()
        if (before := self._children.get(trial_id)) is not None:
            if before.info.status == "FINISHED":
                return str(before.info.run_id)
            self._client.delete_run(before.info.run_id)
        all_tags = {**(tags or {}), TRIAL_TAG: trial_id, PARENT_TAG: parent_id, KIND_TAG: "trial"}
        run = self.experiment.new_run(name, all_tags)
        run_id: str = run.info.run_id
        # Remembered while unfinished: should a line below raise, another call replaces the run.
        self._children[trial_id] = run
        self.experiment.log_params(run_id, params, known={})
        self.experiment.log_metrics(run_id, [*_steps(history), *((key, value, 0) for key, value in metrics.items())])
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status)
        self._children[trial_id] = self._client.get_run(run_id)
        return run_id

    def keep_trials(self, trial_ids: Collection[str]) -> None:
        """Delete the child runs of all others, which an earlier call has left."""
        for trial_id in self._children.keys() - trial_ids:
            self._client.delete_run(self._children.pop(trial_id).info.run_id)

    def log_report(self, result: SweepResult, folder: Path) -> None:
        """Put the report's files, the table of points and the sweep's main numbers on the parent run."""
        run_id = self._parent()
        for name in (*REPORT_FILES, IMAGES_FILE, TEMPERATURES_FILE):
            if (folder / name).is_file():
                self._client.log_artifact(run_id, str(folder / name))
        rows = table(result)
        shown_table = {"columns": list(rows[0]) if rows else [], "data": [list(row.values()) for row in rows]}
        # Not `log_table`: that one appends to the table of an earlier attempt.
        self._client.log_dict(run_id, shown_table, TABLE_FILE)
        shown = json.dumps([{"path": TABLE_FILE, "type": "table"}])
        self.experiment.set_tags(run_id, {"mlflow.loggedArtifacts": shown, NOTE_TAG: markdown(result)})
        on_front = [point for point in result.points if point.on_front]
        numbers: dict[str, float | None] = {
            "teacher_accuracy": result.teacher.get("accuracy"),
            "all_label_bytes": result.all_label_bytes,
            "num_points": len(result.points),
            "num_on_front": len(on_front),
            "num_trials": result.num_trials,
            **{f"seconds.{name}": seconds for name, seconds in result.seconds.items()},
        }
        if on_front:
            best = max(on_front, key=lambda point: point.val_accuracy)
            numbers |= {
                "best.accuracy": best.accuracy.mean,
                "best.accuracy_std": best.accuracy.std,
                "best.val_accuracy": best.val_accuracy,
                "best.label_bytes": best.label_bytes,
                "smallest.label_bytes": min(point.label_bytes for point in on_front),
            }
        self.experiment.log_metrics(run_id, [(key, value, 0) for key, value in numbers.items()])

    def log_files(self, files: Sequence[Path], note: str) -> None:
        """Put files on the parent run, and a text that the UI shows."""
        for file in files:
            self._client.log_artifact(self._parent(), str(file))
        self.experiment.set_tags(self._parent(), {NOTE_TAG: note})

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """End the parent run with the block: FINISHED, KILLED where it is interrupted, or FAILED."""
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit
            status = "KILLED"
            raise
        finally:
            self.finish(status)

    def finish(self, status: str = "FINISHED") -> None:
        """End the parent run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent(), status=status)

    def _parent(self) -> str:
        if self.parent_id is None:
            raise RuntimeError("call start_parent before anything is logged")
        return self.parent_id


def _steps(history: History) -> Iterator[tuple[str, float | None, int]]:
    if isinstance(history, Mapping):
        for key, column in history.items():
            yield from ((key, value, epoch) for epoch, value in enumerate(column))
        return
    for index, record in enumerate(history):
        epoch = record.get("epoch")
        step = index if epoch is None or math.isnan(epoch) else int(epoch)
        yield from ((key, value, step) for key, value in record.items() if key != "epoch")
