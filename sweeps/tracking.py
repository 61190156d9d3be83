"""MLflow, written by the driver alone: one parent run a sweep, one child run a trial, the report as artifacts.

Everything goes through `MlflowClient` with explicit run ids, so nothing depends on an active run, a current experiment
or the working directory. A resumed sweep finds its parent by its configuration and its trials by their ids, and adds
only what is missing. MLflow is imported when a tracker opens: the import takes seconds, and its usage reports, which
would go to a server of MLflow's makers, can be refused only before it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lpqld.errors import ConfigError
from lpqld.store import canonical_json, fingerprint
from sweeps import report
from sweeps.result import SweepResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CONFIG_TAG = "lpqld.config"
KIND_TAG = "lpqld.kind"
TRIAL_TAG = "lpqld.trial_id"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
TABLE_FILE = "front_table.json"

# MLflow's own limits: of one batch, of a key, of a value.
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_KEY_LENGTH = 250
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000

History: TypeAlias = Mapping[str, Sequence[float]] | Sequence[Mapping[str, float | None]]
_T = TypeVar("_T")


def tracking_uri(root: Path) -> str:
    """Where MLflow's records are: MLFLOW_TRACKING_URI when it is set, else a SQLite file in `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def artifact_folder(root: Path) -> Path:
    """Where artifacts are when the records are in our SQLite file."""
    return root.resolve() / "mlartifacts"


def quiet_environment() -> dict[str, str]:
    """Variables that keep MLflow from reporting its use to its makers and from printing on standard output."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }


class Tracker:
    """The record of one sweep in MLflow; open it in one process only."""

    def __init__(self, client: MlflowClient, experiment_id: str, experiment: str) -> None:
        """Use `Tracker.open`, which makes the database and the experiment."""
        self.experiment_id = experiment_id
        self.experiment = experiment
        self.parent_id: str | None = None
        self._client = client
        self._children: dict[str, Run] = {}

    @classmethod
    def open(cls, root: Path, experiment: str) -> Tracker:
        """Connect, creating the SQLite database (7-10 s, once) and the experiment where they are missing.

        An experiment that was deleted in the UI is restored: its name cannot be used again otherwise.

        Raises:
            ConfigError: the records cannot be reached or written, or `experiment` is no name of a folder.
        """
        if Path(experiment).name != experiment or experiment in {"", ".."}:
            raise ConfigError(f"an experiment's name is also a folder's: it cannot be {experiment!r}")
        uri = tracking_uri(root)
        ours = uri.startswith("sqlite:") and not os.environ.get("MLFLOW_TRACKING_URI")
        for name, value in quiet_environment().items():
            os.environ.setdefault(name, value)
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        from mlflow import MlflowClient  # noqa: PLC0415
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        # Importing MLflow sets up its loggers anew.
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        try:
            if ours:
                artifact_folder(root).mkdir(parents=True, exist_ok=True)
            client = MlflowClient(tracking_uri=uri)
            known = client.get_experiment_by_name(experiment)
            if known is None:
                location = (artifact_folder(root) / experiment).as_uri() if ours else None
                # The tag makes the UI open on runs and charts, not on traces of language models.
                tags = {"mlflow.experimentKind": "custom_model_development", KIND_TAG: "experiment"}
                return cls(client, client.create_experiment(experiment, location, tags), experiment)
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(known.experiment_id)
            return cls(client, known.experiment_id, experiment)
        except (MlflowException, OSError) as error:
            remedy = "check MLFLOW_TRACKING_URI, or unset it to keep the records in the root folder"
            raise ConfigError(f"cannot open MLflow's records at {_without_password(uri)}: {error}; {remedy}") from error

    def start_parent(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Start the sweep's run, or continue the one with the same `lpqld.config` tag; returns the run's id.

        Without that tag in `tags`, the fingerprint of `params` stands for the configuration.
        """
        config = str(tags.get(CONFIG_TAG) or fingerprint(canonical_json(_texts(params))))
        all_tags = {**tags, CONFIG_TAG: config, KIND_TAG: "sweep", "mlflow.source.name": "lpqld sweep"}
        runs = self._search(f"tags.`{KIND_TAG}` = 'sweep'")
        parent = next((run for run in runs if run.data.tags.get(CONFIG_TAG) == config), None)
        if parent is None:
            parent = self._client.create_run(self.experiment_id, run_name=self.experiment, tags=_tags(all_tags))
        else:
            self._client.update_run(parent.info.run_id, status="RUNNING")
            self._set_tags(parent.info.run_id, all_tags)
        run_id: str = parent.info.run_id
        self.parent_id = run_id
        self._log_params(run_id, params, known=parent.data.params)
        # Newest first: of two runs of one trial the later one counts.
        children = self._search(f"tags.`{PARENT_TAG}` = '{run_id}'")
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
        run = self._client.create_run(self.experiment_id, run_name=name, tags=_tags(all_tags))
        run_id: str = run.info.run_id
        # Remembered while unfinished: should a line below raise, another call replaces the run.
        self._children[trial_id] = run
        self._log_params(run_id, params, known={})
        self._log_metrics(run_id, [*_steps(history), *((key, value, 0) for key, value in metrics.items())])
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status)
        self._children[trial_id] = self._client.get_run(run_id)
        return run_id

    def log_report(self, result: SweepResult, folder: Path) -> None:
        """Put the report's files, the table of points and the sweep's main numbers on the parent run."""
        run_id = self._parent()
        for name in report.REPORT_FILES:
            if (folder / name).is_file():
                self._client.log_artifact(run_id, str(folder / name))
        rows = report.table(result)
        table = {"columns": list(rows[0]) if rows else [], "data": [list(row.values()) for row in rows]}
        # Not `log_table`: that one appends to the table of an earlier attempt.
        self._client.log_dict(run_id, table, TABLE_FILE)
        shown = json.dumps([{"path": TABLE_FILE, "type": "table"}])
        self._set_tags(run_id, {"mlflow.loggedArtifacts": shown, NOTE_TAG: report.markdown(result)})
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
        self._log_metrics(run_id, [(key, value, 0) for key, value in numbers.items()])

    def finish(self, status: str = "FINISHED") -> None:
        """End the parent run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent(), status=status)

    def _parent(self) -> str:
        if self.parent_id is None:
            raise RuntimeError("call start_parent before anything is logged")
        return self.parent_id

    def _search(self, filter_string: str) -> list[Run]:
        """Every run of the experiment that matches, newest first."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], filter_string, max_results=1000, order_by=["start_time DESC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _log_params(self, run_id: str, params: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Log what is not there yet: MLflow refuses a parameter that changes, and a resumed run keeps its first."""
        from mlflow.entities import Param  # noqa: PLC0415

        new = [Param(key, value) for key, value in _texts(params).items() if key not in known]
        for some in _batches(new, _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=some)

    def _log_metrics(self, run_id: str, values: Iterable[tuple[str, float | None, int]]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        metrics = [Metric(_key(key), float(value), now, step) for key, value, step in values if value is not None]
        for some in _batches(metrics, _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=some)

    def _set_tags(self, run_id: str, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag  # noqa: PLC0415

        new = [RunTag(key, value) for key, value in _tags(tags).items()]
        for some in _batches(new, _PARAMS_A_BATCH):
            self._client.log_batch(run_id, tags=some)


def _steps(history: History) -> Iterator[tuple[str, float | None, int]]:
    if isinstance(history, Mapping):
        for key, column in history.items():
            yield from ((key, value, epoch) for epoch, value in enumerate(column))
        return
    for index, record in enumerate(history):
        epoch = record.get("epoch")
        step = index if epoch is None or math.isnan(epoch) else int(epoch)
        yield from ((key, value, step) for key, value in record.items() if key != "epoch")


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as flat keys and texts within MLflow's limits."""
    return {_key(key): _cut(_text(value), _PARAM_LENGTH) for key, value in _flat(params, "")}


def _flat(params: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _tags(tags: Mapping[str, Any]) -> dict[str, str]:
    return {_key(key): _cut(_text(value), _TAG_LENGTH) for key, value in tags.items()}


def _key(key: str) -> str:
    """`key` with what MLflow refuses replaced: it allows letters, digits, and _ - . / : and spaces."""
    return re.sub(r"[^\w\-. /:]", "_", key)[:_KEY_LENGTH]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _without_password(uri: str) -> str:
    return re.sub(r"//[^@/]*@", "//***@", uri)
