"""Whole studies of digits, as a user runs them: table, figure, MLflow, label sets, and nothing done twice."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import LabelSet
from lpqld.models.ensemble import load_teachers
from sweeps.studies.registry import STUDY_NAMES

SMALL = (
    *("--images", "digits:train", "--eval", "digits:test", "--val", "digits:val", "--ipc", "1", "--ipc", "5"),
    *("--epochs", "20", "--seeds", "2", "--expert-epochs", "6", "--expert-seeds", "2", "--json"),
    *("--set", "experts.keep=1,6", "--set", "student.batch_size=50", "--set", "student.lr=0.004"),
)
DIGITS = ("--images", "digits:train", "--eval", "digits:test", "--ipc", "1")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("studies") / "runs"


@pytest.fixture(scope="module")
def by_epoch(ray_cluster, in_process, root) -> dict:
    return in_process("study", "expert-epoch", *SMALL, "--root", root).document


def test_cases_have_what_they_should(by_epoch, root):
    assert [entry["case"] for entry in by_epoch["cases"]] == [
        {"ipc": ipc, "epoch": epoch} for ipc in (1, 5) for epoch in (1, 6)
    ]
    for entry in by_epoch["cases"]:
        assert entry["accuracy"]["n"] == entry["val_accuracy"]["n"] == 2
        sets = [LabelSet.open(folder) for folder in entry["labels"]]
        sizes = [labels.num_bytes["total"] for labels in sets]
        assert abs(sum(sizes) / 2 - entry["label_bytes"]) <= 0.5
        epoch, shown = entry["case"]["epoch"], list[set[int]]()
        for seed, labels in enumerate(sets):
            labels.verify()
            assert labels.spec.num_views == labels.spec.num_images == 10 * entry["case"]["ipc"]
            files = ",".join(map(str, (root / "studies" / "experts").glob(f"*-seed{seed}-epoch{epoch}.safetensors")))
            expert = load_teachers(files, image_class_names=tuple("0123456789"))
            assert labels.spec.teacher.fingerprint == expert.fingerprint
            images = labels.images_of(ImageSet.open("digits:train"))
            said = expert(images.pixels.float() / 255).detach().numpy()
            assert labels.labels.logits.dense(10) == pytest.approx(said[labels.labels.views_of(images).order], abs=0.02)
            shown.append(set(images.ids.tolist()))
        assert shown[0] != shown[1], "each seed has a sample of its own"
    late, early = by_epoch["cases"][3], by_epoch["cases"][2]
    assert late["expert_accuracy"] > early["expert_accuracy"]
    assert late["accuracy"]["mean"] > early["accuracy"]["mean"] + 0.1
    assert late["entropy"] < early["entropy"]


def test_validation_chooses(by_epoch):
    for ipc, chosen in by_epoch["chosen"].items():
        some = [entry for entry in by_epoch["cases"] if entry["case"]["ipc"] == int(ipc)]
        best = max(some, key=lambda entry: entry["val_accuracy"]["mean"])
        assert chosen == {"case": best["case"], "accuracy": best["accuracy"]}


def test_table_figure_and_record(by_epoch, root):
    from mlflow import MlflowClient

    folder = root / "studies" / "expert-epoch"
    table = (folder / "table.md").read_text()
    assert table.count("| 1 |") >= 2
    assert "which nobody may choose by" in table
    with Image.open(folder / "figure.png") as figure:
        assert min(figure.size) > 500
    assert json.loads((folder / "result.json").read_text())["cases"] == by_epoch["cases"]
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("study-expert-epoch").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "figure.png", "result.json", "table.md",
    }  # fmt: skip
    children = {run.data.tags["mlflow.runName"]: run.data.metrics for run in runs if run is not parent}
    assert children["ipc 5, epoch 6"]["accuracy"] == by_epoch["cases"][3]["accuracy"]["mean"]


def test_the_same_again_trains_nothing(by_epoch, in_process, root):
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in root.rglob("seed-*.json")}

    before = files()
    assert len(before) == 8
    again = in_process("study", "expert-epoch", *SMALL, "--root", root).document
    assert again["cases"] == by_epoch["cases"]
    assert files() == before


def test_what_is_damaged_is_made_again(by_epoch, in_process, root):
    student = next(root.rglob("seed-1.json"))
    said = next((root / "studies" / "experts-say").glob("*.npz"))
    whole = {path: path.read_bytes() for path in (student, said)}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    again = in_process("study", "expert-epoch", *SMALL, "--root", root).document
    assert [entry["accuracy"] for entry in again["cases"]] == [entry["accuracy"] for entry in by_epoch["cases"]]
    assert json.loads(student.read_bytes()).keys() == json.loads(whole[student]).keys()


def test_experts_that_changed_behind_their_path(ray_cluster, in_process, tmp_path):
    from mlflow import MlflowClient

    folder = tmp_path / "a,b"  # a comma parts teachers only where a user names them
    data = ("--images", "digits:train", "--eval", "digits:test")
    for lr in ("0.003", "0.00001"):
        out = (folder / "e-seed0.safetensors", folder / "e-seed1.safetensors")
        for seed, path in enumerate(out):
            line = ("--arch", "convnet", "--epochs", "2", "--keep-at", "2", "--lr", lr, "--seed", str(seed), "--out")
            assert in_process("teacher", "fit", *data, *line, path).exit_code == 0
        experts = ("--set", f"experts.source={folder}/e-seed?.safetensors", "--set", "members=[2]")
        small = ("--ipc", "1", "--epochs", "2", "--seeds", "1", "--json", "--root", folder)
        found = in_process("study", "ensemble", *data, *experts, *small).document
        client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("study-ensemble").experiment_id])
        children = [run.data.metrics["expert_accuracy"] for run in runs if "mlflow.parentRunId" in run.data.tags]
        assert children == [entry["expert_accuracy"] for entry in found["cases"]]


@pytest.mark.parametrize("name", [name for name in STUDY_NAMES if name not in ("expert-epoch", "temperature")])
def test_the_others_on_the_same_experts(by_epoch, in_process, root, name):
    experts = sorted((root / "studies" / "experts").glob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in experts]
    students = set(root.rglob("seed-*.json"))
    done = in_process("study", name, *SMALL, "--root", root, "--set", "k=[0,2,10]", "--set", "ranks=[1,2]")
    found = done.document["cases"]
    assert all(0 <= entry["accuracy"]["mean"] <= 1 for entry in found)
    assert (root / "studies" / name / "figure.png").is_file()
    assert [path.stat().st_mtime_ns for path in experts] == times, "fitted once for all studies"
    if name == "entropy":
        assert [entry["accuracy"] for entry in found] == [entry["accuracy"] for entry in by_epoch["cases"]]
        assert set(root.rglob("seed-*.json")) == students, "trained once for all studies"
    if name == "zero-shot":
        gone = [entry for entry in found if entry["case"].get("edit") == "without-images"]
        assert [entry["class_accuracy"]["n"] for entry in gone] == [2, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("expert-epochs", "--images", "digits:train", "--eval", "digits:test"), "no study 'expert-epochs': expected"),
        (("swap", "--eval", "digits:test"), "images"),
        (("swap", "--config", "nothing.yaml"), "--config nothing.yaml: no such file"),
        (("swap", "--images", "digits:train", "--eval", "digits:test", "--experts", "no/*.pth"), "no teacher matches"),
        (("ensemble", *DIGITS), "an ensemble of 2 needs as many experts, and there are 1: raise experts.seeds"),
        (("hard", *DIGITS, "--set", "epoch=6"), "epoch 6: no expert was kept then"),
        (("hard", *DIGITS, "--arch", "convnt"), "convnt"),
        (("hard", *DIGITS, "--expert-arch", "convnt"), "convnt"),
    ],
)
def test_wrong_input(ray_cluster, in_process, tmp_path, line, message):
    done = in_process("study", *line, "--root", tmp_path)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "ray::" not in done.stderr
    assert not list(tmp_path.rglob("*.safetensors")), "nothing is fitted before"
