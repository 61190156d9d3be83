"""An experiment in MLflow: its runs, and what is logged on them within MLflow's limits.

Everything goes through `MlflowClient` with explicit run ids, so nothing depends on an active run, a current experiment
or the working directory. MLflow is imported when an experiment opens: the import takes seconds, and its usage reports,
which would go to a server of MLflow's makers, can be refused only before it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lpqld.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND_TAG = "lpqld.kind"

# MLflow's own limits: of one batch, of a key, of a value.
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_KEY_LENGTH = 250
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000

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


class Experiment:
    """An experiment; open it in one process only.

    Attributes:
        name: of it.
        experiment_id: MLflow's.
        client: for what is not here.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, name: str) -> None:
        """Use `Experiment.open`, which makes the database and the experiment."""
        self.client, self.experiment_id, self.name = client, experiment_id, name

    @classmethod
    def open(cls, root: Path, name: str) -> Experiment:
        """Connect, creating the SQLite database (7-10 s, once) and the experiment where they are missing.

        An experiment that was deleted in the UI is restored: its name cannot be used again otherwise.

        Raises:
            ConfigError: the records cannot be reached or written, or `name` is no name of a folder.
        """
        if Path(name).name != name or name in {"", ".."}:
            raise ConfigError(f"an experiment's name is also a folder's: it cannot be {name!r}")
        uri = tracking_uri(root)
        ours = uri.startswith("sqlite:") and not os.environ.get("MLFLOW_TRACKING_URI")
        for variable, value in quiet_environment().items():
            os.environ.setdefault(variable, value)
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
            known = client.get_experiment_by_name(name)
            if known is None:
                location = (artifact_folder(root) / name).as_uri() if ours else None
                # The tag makes the UI open on runs and charts, not on traces of language models.
                tags = {"mlflow.experimentKind": "custom_model_development", KIND_TAG: "experiment"}
                return cls(client, client.create_experiment(name, location, tags), name)
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(known.experiment_id)
            return cls(client, known.experiment_id, name)
        except (MlflowException, OSError) as error:
            remedy = "check MLFLOW_TRACKING_URI, or unset it to keep the records in the root folder"
            raise ConfigError(f"cannot open MLflow's records at {_without_password(uri)}: {error}; {remedy}") from error

    def new_run(self, name: str, tags: Mapping[str, Any]) -> Run:
        """Start a run."""
        return self.client.create_run(self.experiment_id, run_name=name, tags=_tags(tags))

    def search(self, filter_string: str) -> list[Run]:
        """Every run of the experiment that matches, newest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, max_results=1000, order_by=["start_time DESC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def log_params(self, run_id: str, params: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Log what is not there yet: MLflow refuses a parameter that changes, and a resumed run keeps its first."""
        from mlflow.entities import Param  # noqa: PLC0415

        new = [Param(key, value) for key, value in texts(params).items() if key not in known]
        for batch in _batches(new, _PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch)

    def log_metrics(self, run_id: str, values: Iterable[tuple[str, float | None, int]]) -> None:
        """Log (key, value, step); None is left out."""
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        metrics = [Metric(_key(key), float(value), now, step) for key, value, step in values if value is not None]
        for batch in _batches(metrics, _METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    def set_tags(self, run_id: str, tags: Mapping[str, Any]) -> None:
        """Add tags, or replace them."""
        from mlflow.entities import RunTag  # noqa: PLC0415

        new = [RunTag(key, value) for key, value in _tags(tags).items()]
        for batch in _batches(new, _PARAMS_A_BATCH):
            self.client.log_batch(run_id, tags=batch)


def texts(params: Mapping[str, Any]) -> dict[str, str]:
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
