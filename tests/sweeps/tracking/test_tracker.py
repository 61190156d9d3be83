"""What a sweep leaves in MLflow, read back from a real SQLite database."""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lpqld.errors import ConfigError
from sweeps.report import tables as report
from sweeps.report.result import Accuracy, Point, SweepResult
from sweeps.tracking.experiment import Experiment, tracking_uri
from sweeps.tracking.tracker import PARENT_TAG, TABLE_FILE, TRIAL_TAG, Tracker


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all tests here: making one takes 7-10 s. Every test has its own experiment."""
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def tracker(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker(Experiment.open(root, request.node.name))


def client(root: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def children(root: Path, tracker: Tracker) -> list[Any]:
    found = client(root).search_runs([tracker.experiment.experiment_id], f"tags.`{PARENT_TAG}` = '{tracker.parent_id}'")
    return sorted(found, key=lambda run: run.data.tags[TRIAL_TAG])


def small_result(root: Path) -> SweepResult:
    points = report.mark_front(
        [
            Point("a", 1000, 990, 5000, Accuracy.of([0.8, 0.82]), 0.83, {"k": 3, "temperature": "20"}),
            Point("b", 5000, 4900, 5000, Accuracy.of([0.9, 0.92]), 0.91, {"k": 5, "temperature": "20:2:step"}),
        ]
    )
    hard = Point("hard_labels", None, 0, 5000, Accuracy.of([0.7]), 0.7, {})
    return SweepResult("e", str(root), {"accuracy": 0.98}, points, (hard,), {"search": 3.0}, 100_000, num_trials=2)


def test_uri_is_an_absolute_sqlite_file_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri(Path("runs")) == "http://host:5000"


def test_trial_is_a_child_run_with_a_metric_an_epoch(root: Path, tracker: Tracker) -> None:
    tracker.start_parent({"preset": "digits"}, {})
    history = [
        {"epoch": e, "loss": 1 / (e + 1), "val_accuracy": None if e % 2 else 0.5, "rate": 1.0} for e in range(700)
    ]
    params = {"student": {"arch": "convnet", "lr": 0.1, "long": "x" * 7000}, "ca": None, "odd key ±[1]": [1, 2]}
    run_id = tracker.log_trial("t1", "trial one", params, history, {"accuracy": 0.9, "absent": None}, tags={"seed": 3})
    run = client(root).get_run(run_id)
    assert (run.info.run_name, run.info.status, run.data.tags["seed"]) == ("trial one", "FINISHED", "3")
    assert run.data.tags[PARENT_TAG] == tracker.parent_id
    assert (run.data.params["student.arch"], run.data.params["ca"]) == ("convnet", "null")
    assert (len(run.data.params["student.long"]), run.data.params["odd key __1_"]) == (6000, "[1, 2]")
    assert run.data.metrics["accuracy"] == 0.9
    assert [metric.step for metric in client(root).get_metric_history(run_id, "loss")] == list(range(700))
    assert len(client(root).get_metric_history(run_id, "val_accuracy")) == 350


def test_history_may_be_columns_and_hold_nan(root: Path, tracker: Tracker) -> None:
    tracker.start_parent({}, {})
    run_id = tracker.log_trial(
        "t", "t", {}, {"loss": [2.0, math.nan, math.inf]}, {"accuracy": math.nan}, status="FAILED"
    )
    run = client(root).get_run(run_id)
    assert run.info.status == "FAILED"
    assert math.isnan(run.data.metrics["accuracy"])
    assert sorted(m.step for m in client(root).get_metric_history(run_id, "loss")) == [0, 1, 2]


def test_resuming_continues_the_parent_and_repeats_no_finished_trial(root: Path, tracker: Tracker) -> None:
    parent = tracker.start_parent({"trials": 2, "seed": 0}, {"lpqld.config": "abc"})
    done = tracker.log_trial("done", "done", {}, {"loss": [1.0]}, {"accuracy": 0.5})
    broken = tracker.log_trial("broken", "broken", {}, {"loss": [1.0]}, {}, status="RUNNING")
    tracker.finish("KILLED")

    resumed = Tracker(Experiment.open(root, tracker.experiment.name))
    assert resumed.start_parent({"trials": 2, "seed": 0, "new": 1}, {"lpqld.config": "abc"}) == parent
    assert client(root).get_run(parent).info.status == "RUNNING"
    assert resumed.log_trial("done", "done", {}, {"loss": [9.0]}, {"accuracy": 0.9}) == done
    assert resumed.log_trial("broken", "broken", {}, {"loss": [1.0]}, {"accuracy": 0.7}) != broken
    assert [run.data.metrics["accuracy"] for run in children(root, resumed)] == [0.7, 0.5]
    resumed.finish()
    assert client(root).get_run(parent).info.status == "FINISHED"
    assert client(root).get_run(parent).data.params["new"] == "1"


def test_another_configuration_is_another_parent(root: Path, tracker: Tracker) -> None:
    first = tracker.start_parent({"seed": 0}, {})
    assert Tracker(Experiment.open(root, tracker.experiment.name)).start_parent({"seed": 1}, {}) != first
    assert Tracker(Experiment.open(root, tracker.experiment.name)).start_parent({"seed": 0}, {}) == first


def test_report_is_on_the_parent_once_however_often_it_is_logged(root: Path, tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.start_parent({}, {})
    result = small_result(root)
    report.write_report(result, tmp_path)
    (tmp_path / "other.bin").write_bytes(b"not the report's")
    for _ in range(2):
        tracker.log_report(result, tmp_path)
    names = {artifact.path for artifact in client(root).list_artifacts(parent)}
    assert names == {*report.REPORT_FILES, TABLE_FILE}
    table = client(root).download_artifacts(parent, TABLE_FILE, str(tmp_path))
    assert Path(table).read_text().count("hard_labels") == 1
    run = client(root).get_run(parent)
    assert run.data.metrics["best.accuracy"] == pytest.approx(0.91)
    assert (run.data.metrics["smallest.label_bytes"], run.data.metrics["all_label_bytes"]) == (990, 100_000)
    assert "| **5 KB** |" in run.data.tags["mlflow.note.content"]
    assert (root / "mlartifacts" / tracker.experiment.name / parent / "artifacts/front.png").stat().st_size > 10_000


def test_experiment_deleted_in_the_ui_comes_back(root: Path, tracker: Tracker) -> None:
    client(root).delete_experiment(tracker.experiment.experiment_id)
    assert Experiment.open(root, tracker.experiment.name).experiment_id == tracker.experiment.experiment_id
    assert client(root).get_experiment(tracker.experiment.experiment_id).lifecycle_stage == "active"


def test_logging_without_a_parent_is_a_programming_error(tracker: Tracker) -> None:
    with pytest.raises(RuntimeError, match="start_parent"):
        tracker.log_trial("t", "t", {}, [], {})


def test_root_that_cannot_be_a_folder_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot open MLflow's records"):
        Experiment.open(tmp_path / "file", "e")


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".."])
def test_experiment_names_a_folder_in_the_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="experiment's name"):
        Experiment.open(tmp_path, name)


def test_making_a_database_prints_nothing(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from sweeps.tracking import Experiment, Tracker\n"
        f"t = Tracker(Experiment.open(Path({str(tmp_path)!r}) / 'runs', 'e')); t.start_parent({{}}, {{}}); t.finish()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_opening_keeps_mlflow_quiet(tracker: Tracker) -> None:
    assert tracker.parent_id is None
    assert logging.getLogger("mlflow").level == logging.WARNING
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
