"""One real sweep of the digits, small, through the command line, and all that a user does with its result."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import LabelSet
from sweeps.report.pareto import front
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.trial import TrialResult
from tests.conftest import Finished, kill_9, started, wait_until

EPOCHS, TRIALS, SEEDS = 30, 2, 2
BUDGETS = (12_000, 3_000)
SMALL = (
    *("--set", f"student.epochs={EPOCHS}"),
    *("--set", f"search.trials={TRIALS}"),
    *("--set", f"confirm.seeds={SEEDS}"),
    *("--set", "teacher.fit_epochs=8"),
    *("--budget", "12KB", "--budget", "3KB"),
)


@dataclass(frozen=True)
class Sweep:
    root: Path
    line: tuple[object, ...]
    document: dict[str, Any]
    stderr: str

    @property
    def folder(self) -> Path:
        return self.root / "digits"


@pytest.fixture(scope="session")
def digits_sweep(lpqld: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = tmp_path_factory.mktemp("sweep") / "runs"
    line = ("sweep", "digits", *SMALL, "--root", root, "--json")
    done = lpqld(*line)
    return Sweep(root, line, done.document, done.stderr)


@pytest.fixture(scope="module")
def exported(
    digits_sweep: Sweep, in_process: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("export") / "labels"
    done = in_process("export", "digits", "--budget", "5KB", "--out", out, "--root", digits_sweep.root, "--json")
    assert done.document["exported"][0]["path"] == str(out)
    return out


def trials(sweep: Sweep) -> list[TrialResult]:
    found = []
    for path in sorted((sweep.folder / "trials").glob("*.json")):
        result = TrialResult.kept(path)
        assert result is not None, path
        found.append(result)
    return found


def mlflow_runs(root: Path) -> tuple[list[Any], list[Any]]:
    """Parents and children of the experiment `digits`."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id], max_results=1000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of the results in a folder."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.json")}


class TestResult:
    def test_json_has_the_fields_of_the_design(self, digits_sweep):
        document = digits_sweep.document
        assert {"experiment", "root", "teacher", "points", "baselines", "seconds"} <= set(document)
        assert (document["experiment"], document["root"]) == ("digits", str(digits_sweep.root))
        assert 0.8 < document["teacher"]["accuracy"] <= 1
        assert set(document["seconds"]) == {"teacher", "images", "relabel", "search", "confirm"}
        assert all(seconds > 0 for seconds in document["seconds"].values())
        for point in (*document["points"], *document["baselines"]):
            assert set(point) == {
                *("trial_id", "budget", "label_bytes", "image_bytes", "accuracy", "val_accuracy", "config"),
                *("on_front", "labels"),
            }
            accuracy = point["accuracy"]
            assert (accuracy["n"], len(accuracy["values"])) == (SEEDS, SEEDS)
            assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]))
            assert accuracy["std"] == pytest.approx(np.std(accuracy["values"], ddof=1))
            assert 0 < point["val_accuracy"] <= 1

    def test_progress_goes_to_stderr(self, digits_sweep):
        assert "search: 4 of 4" in digits_sweep.stderr
        assert "Traceback" not in digits_sweep.stderr

    def test_every_budget_has_a_label_set_of_its_bytes_on_disk(self, digits_sweep):
        points = digits_sweep.document["points"]
        assert [point["budget"] for point in points] == list(BUDGETS)
        for point in points:
            folder = Path(point["labels"])
            assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) == point["label_bytes"]
            assert point["label_bytes"] <= point["budget"]
            LabelSet.open(folder).verify()

    def test_budget_is_filled_unless_every_view_is_kept(self, digits_sweep):
        for point in digits_sweep.document["points"]:
            assert point["label_bytes"] > 0.98 * point["budget"] or point["config"]["prune_ratio"] == 0

    def test_no_trial_exceeds_its_budget(self, digits_sweep):
        found = trials(digits_sweep)
        searched = [trial for trial in found if isinstance(trial.choice, SearchedLabels) and trial.seed == 0]
        assert sorted(trial.choice.budget for trial in searched) == sorted([*BUDGETS] * TRIALS)
        assert all(trial.label_bytes <= trial.choice.budget for trial in found if trial.choice.budget is not None)

    def test_baselines_are_hard_all_prune_and_the_papers_with_their_bytes(self, digits_sweep):
        document = digits_sweep.document
        size = {(entry["config"]["kind"], entry["budget"]): entry["label_bytes"] for entry in document["baselines"]}
        assert set(size) == {("hard", None), ("all", None), ("prune", 12_000), ("paper", 12_000)}
        assert size["hard", None] == 0
        assert size["all", None] == document["all_label_bytes"]
        assert size["all", None] == pytest.approx(100 * EPOCHS * 10 * 2, rel=0.04)
        assert 0.98 * 12_000 < size["prune", 12_000] <= 12_000
        assert 0.7 * 12_000 < size["paper", 12_000] <= 12_000
        assert all("3 KB" in note for note in document["notes"]), "what does not fit is said"
        assert len(document["notes"]) == 2
        assert not any(entry["on_front"] for entry in document["baselines"])

    def test_front_is_by_validation(self, digits_sweep):
        points = digits_sweep.document["points"]
        sizes = np.array([float(point["label_bytes"]) for point in points])
        expected = front(sizes, np.array([point["val_accuracy"] for point in points]))
        assert [point["on_front"] for point in points] == expected.tolist()
        assert any(expected)

    def test_only_confirmed_trainings_read_the_test_set(self, digits_sweep):
        for trial in trials(digits_sweep):
            assert (trial.test_accuracy is None) == (trial.seed == 0)
            if trial.seed:
                assert len(trial.history) == EPOCHS


class TestTracking:
    def test_one_parent_with_configuration_data_and_front(self, digits_sweep):
        from mlflow import MlflowClient

        parents, _ = mlflow_runs(digits_sweep.root)
        assert len(parents) == 1
        parent = parents[0]
        assert parent.info.status == "FINISHED"
        assert parent.data.params["student.epochs"] == str(EPOCHS)
        assert parent.data.params["all_label_bytes"] == str(digits_sweep.document["all_label_bytes"])
        assert {"torch", "ray", "python", "image_bytes"} <= set(parent.data.params)
        assert parent.data.tags["lpqld.teacher"] == digits_sweep.document["teacher"]["fingerprint"]
        images = ImageSet.open("digits:train").sample_per_class(10, 0)
        assert parent.data.tags["lpqld.images"] == images.fingerprint
        client = MlflowClient(tracking_uri=f"sqlite:///{digits_sweep.root}/mlflow.db")
        artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
        assert {"front.csv", "front.json", "front.png", "front.html"} <= artifacts

    def test_a_child_for_every_training_with_a_metric_an_epoch(self, digits_sweep):
        from mlflow import MlflowClient

        _, children = mlflow_runs(digits_sweep.root)
        client = MlflowClient(tracking_uri=f"sqlite:///{digits_sweep.root}/mlflow.db")
        found = {(trial.choice.trial_id, trial.seed): trial for trial in trials(digits_sweep)}
        names = {f"{trial_id}-seed{seed}": trial for (trial_id, seed), trial in found.items()}
        assert sorted(run.data.tags["lpqld.trial_id"] for run in children) == sorted(names)
        for run in children:
            trial = names[run.data.tags["lpqld.trial_id"]]
            assert run.info.status == "FINISHED"
            assert run.data.metrics["label_bytes"] == trial.label_bytes
            assert {"k", "bits", "temperature", "ca", "lr", "seed"} <= set(run.data.params)
            assert {"loss", "val_accuracy", "teacher_temperature", "student_temperature"} <= set(run.data.metrics)
        stored = client.get_metric_history(children[0].info.run_id, "loss")
        assert len(stored) == len(names[children[0].data.tags["lpqld.trial_id"]].history)


class TestAfterwards:
    def test_the_same_command_repeats_nothing(self, digits_sweep, lpqld):
        trials_before, runs_before = snapshot(digits_sweep.folder / "trials"), mlflow_runs(digits_sweep.root)
        again = lpqld(*digits_sweep.line).document
        assert snapshot(digits_sweep.folder / "trials") == trials_before
        runs_after = mlflow_runs(digits_sweep.root)
        assert [{run.info.run_id for run in runs} for runs in runs_after] == [
            {run.info.run_id for run in runs} for runs in runs_before
        ]
        for document in (again, digits_sweep.document):
            assert document["seconds"]
        assert {**again, "seconds": None} == {**digits_sweep.document, "seconds": None}

    def test_another_configuration_is_refused(self, digits_sweep, in_process):
        before = snapshot(digits_sweep.folder / "trials")
        done = in_process("sweep", "digits", *SMALL, "--set", "student.lr=0.004", "--root", digits_sweep.root, "--json")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "another configuration (student.lr was 0.002, now 0.004)" in done.stderr
        assert snapshot(digits_sweep.folder / "trials") == before

    def test_pareto(self, digits_sweep, in_process, tmp_path):
        done = in_process("pareto", "digits", "--root", digits_sweep.root, "--out", tmp_path / "front", "--json")
        rows = done.document["rows"]
        assert [row["label_bytes"] for row in rows if row["on_front"]] == [
            point["label_bytes"] for point in digits_sweep.document["points"] if point["on_front"]
        ]
        assert (tmp_path / "front" / "front.csv").read_text().count("\n") == 1 + len(rows)
        assert (tmp_path / "front" / "front.png").read_bytes().startswith(b"\x89PNG")

    def test_table_for_a_person(self, digits_sweep, in_process, tmp_path):
        done = in_process("pareto", "digits", "--root", digits_sweep.root, "--out", tmp_path / "front")
        assert done.exit_code == 0
        for word in ("12 KB", "3 KB", "hard labels", "all labels", "±"):
            assert word in done.stdout

    def test_export_under_a_budget_is_the_winner_byte_for_byte(self, digits_sweep, exported):
        smaller = digits_sweep.document["points"][1]
        source = Path(smaller["labels"])
        assert {path.name: path.read_bytes() for path in exported.iterdir()} == {
            path.name: path.read_bytes() for path in source.iterdir()
        }

    def test_export_of_the_whole_front(self, digits_sweep, in_process, tmp_path):
        out = tmp_path / "front"
        done = in_process("export", "digits", "--all", "--out", out, "--root", digits_sweep.root, "--json")
        on_front = [point for point in digits_sweep.document["points"] if point["on_front"]]
        assert [row["trial_id"] for row in done.document["exported"]] == [point["trial_id"] for point in on_front]
        for row, point in zip(done.document["exported"], on_front, strict=True):
            assert LabelSet.open(row["path"]).num_bytes["total"] == point["label_bytes"]

    def test_export_as_parquet_spells_out_views_and_logits(self, digits_sweep, exported, in_process, tmp_path):
        line = ("export", "digits", "--budget", "5KB", "--format", "parquet", "--out", tmp_path / "plain")
        assert in_process(*line, "--root", digits_sweep.root, "--json").document["format"] == "parquet"
        table = pq.read_table(tmp_path / "plain" / "labels")
        labels = LabelSet.open(exported).labels
        assert table.num_rows == labels.spec.num_views
        assert table["ids"].to_pylist() == labels.logits.ids.tolist()
        assert np.array_equal(np.array(table["values"].to_pylist(), dtype=np.float32), labels.logits.values)
        assert set(table["image_id"].to_pylist()) == set(labels.spec.image_ids.tolist())

    def test_it_is_a_hugging_face_data_set_with_a_card(self, digits_sweep, exported, in_process, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        import datasets

        line = ("export", "digits", "--budget", "5KB", "--format", "parquet", "--with-images", "--license", "cc-by-4.0")
        assert in_process(*line, "--out", tmp_path / "hub", "--root", digits_sweep.root).exit_code == 0
        labels = LabelSet.open(exported).labels
        rows, images = (
            datasets.load_dataset(str(tmp_path / "hub"), name, split="train", cache_dir=str(tmp_path / "cache"))
            for name in ("labels", "images")
        )
        assert rows.num_rows == labels.spec.num_views
        assert rows[3]["ids"] == labels.logits.ids[3].tolist()
        assert images.num_rows == labels.spec.num_images
        assert images.features["label"].names == [str(label) for label in range(10)]
        assert images[0]["image"].size == (8, 8)
        card = (tmp_path / "hub" / "README.md").read_text()
        header = yaml.safe_load(card.split("---")[1])
        assert (header["license"], header["configs"][0]["config_name"]) == ("cc-by-4.0", "labels")
        size = LabelSet.open(exported).num_bytes["total"]
        (point,) = [point for point in digits_sweep.document["points"] if point["label_bytes"] == size]
        assert f"{point['accuracy']['mean']:.2%} ± {point['accuracy']['std']:.2%}" in card
        assert (tmp_path / "hub" / "front.png").read_bytes()[:4] == b"\x89PNG"

    def test_export_refuses_what_fits_no_budget_and_a_folder_in_use(self, digits_sweep, in_process, tmp_path):
        line = ("export", "digits", "--root", digits_sweep.root, "--json", "--out")
        done = in_process(*line, tmp_path / "out", "--budget", "1KB")
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"the smallest has {digits_sweep.document['points'][1]['label_bytes']} bytes" in done.stderr
        (tmp_path / "mine.txt").write_text("mine")
        assert in_process(*line, tmp_path, "--budget", "5KB").exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.usefixtures("ray_cluster")
    def test_train_on_the_export_gives_the_reported_accuracy(self, digits_sweep, exported, in_process, tmp_path):
        line = ("train", "--labels", exported, "--images", "digits:train", "--eval", "digits:test")
        line = (*line, "--seeds", SEEDS, "--root", tmp_path, "--json")
        accuracy = in_process(*line).document["accuracy"]
        reported = digits_sweep.document["points"][1]["accuracy"]
        assert set(accuracy) == {"mean", "std", "n", "values"}
        assert accuracy["values"] == pytest.approx(reported["values"], abs=1e-9)
        before = snapshot(tmp_path / "train")
        assert in_process(*line).document["accuracy"] == accuracy
        assert snapshot(tmp_path / "train") == before != {}, "finished seeds are read"

    def test_inspect(self, digits_sweep, exported, in_process):
        master = next((digits_sweep.root / "labels").iterdir())
        found = in_process("inspect", exported, "--against", master, "--json").document
        total = sum(path.stat().st_size for path in exported.rglob("*") if path.is_file())
        assert found["bytes"]["total"] == total == found["bytes"]["payload"] + found["bytes"]["manifest"]
        assert found["bytes_per_view"] == pytest.approx(total / found["num_views"])
        assert (found["num_images"], found["num_classes"], found["codec"]["name"]) == (100, 10, "topk")
        assert 0 < found["entropy"] < np.log(10)
        assert all(0 < distance < 1 for distance in found["total_variation"].values())

    def test_inspect_images_with_a_teacher(self, digits_sweep, in_process):
        teacher = digits_sweep.folder / "teacher.safetensors"
        found = in_process("inspect", "digits:test", "--teacher", teacher, "--json").document
        assert found["teacher_accuracy"] == pytest.approx(digits_sweep.document["teacher"]["accuracy"])
        assert 0 < found["within_class_similarity"] < 1

    def test_verify_recomputes_labels(self, digits_sweep, exported, in_process):
        teacher = digits_sweep.folder / "teacher.safetensors"
        recompute = ("--images", "digits:train", "--teacher", teacher, "--json")
        for labels in (exported, next((digits_sweep.root / "labels").iterdir())):
            found = in_process("verify", labels, *recompute).document
            assert found["checksums"] == "ok"
            assert found["largest_difference_in_steps"] <= 1

    def test_verify_notices_another_teacher(self, exported, in_process, tmp_path):
        from lpqld.models.architectures import build
        from lpqld.models.teacher import save_teacher
        from lpqld.models.teacher_spec import TeacherSpec

        save_teacher(tmp_path / "other.safetensors", build("convnet", 10), TeacherSpec("convnet", 10))
        line = ("verify", exported, "--images", "digits:train", "--teacher", tmp_path / "other.safetensors", "--json")
        done = in_process(*line)
        assert (done.exit_code, done.stdout) == (3, "")
        assert "differ by up to" in done.stderr

    def test_compress_the_export_and_train_nothing_lost(self, exported, in_process, tmp_path):
        before = LabelSet.open(exported)
        done = in_process("compress", exported, tmp_path / "half", "--budget", "2.7KB", "--json").document
        after = LabelSet.open(tmp_path / "half")
        assert done["bytes"]["total"] == after.num_bytes["total"] <= 2700
        assert after.spec.num_views < before.spec.num_views
        assert after.spec.recipe == before.spec.recipe
        kept = after.labels.logits
        assert np.array_equal(kept.ids, before.labels.logits.ids[: len(kept.ids)])
        assert np.array_equal(kept.values, before.labels.logits.values[: len(kept.ids)])


@pytest.mark.usefixtures("ray_cluster")
def test_after_kill_9_finished_trials_are_not_repeated(tmp_path, in_process):
    per_budget, root = 2, tmp_path / "runs"
    line = (
        *("sweep", "digits", "--root", root, "--json", "--budget", "12KB", "--budget", "3KB"),
        *("--set", "student.epochs=30", "--set", "teacher.fit_epochs=2", "--set", "relabel.workers=1"),
        *("--set", f"search.trials={per_budget}", "--set", "confirm.seeds=1", "--set", "confirm.baselines=false"),
    )
    folder = root / "digits" / "trials"

    def finished() -> dict[str, tuple[int, bytes]]:
        return {name: entry for name, entry in snapshot(folder).items() if json.loads(entry[1])["finished"]}

    err = tmp_path / "err"
    with started(line, tmp_path / "out", err) as process:
        wait_until(lambda: len(finished()) >= 2, process, err)
        kill_9(process)
    before = finished()
    assert not (root / "digits" / "result.json").exists()

    document = in_process(*line).document
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    assert document["num_trials"] == 2 * per_budget
    assert [point["budget"] for point in document["points"]] == list(BUDGETS)
    parents, children = mlflow_runs(root)
    assert (len(parents), parents[0].info.status) == (1, "FINISHED")
    searched = {run.data.tags["lpqld.trial_id"] for run in children if run.data.params["phase"] == "search"}
    assert {name.removesuffix(".json") for name in before} <= searched, "no finished trial was replaced by another"
    assert len(searched) == 2 * per_budget
    assert len(children) == 2 * per_budget + len(BUDGETS)
