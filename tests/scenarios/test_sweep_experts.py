"""A sweep whose trials choose the epoch of the experts, as a user runs it on digits."""

import json
from pathlib import Path

import pytest

from lpqld.labels.label_set import LabelSet
from lpqld.models.ensemble import load_teachers
from sweeps.config.sweep import TeacherConfig
from sweeps.jobs.expert_files import trajectory
from sweeps.jobs.inputs import experts_by_epoch, open_teacher_for

NAMES = tuple("0123456789")
SMALL = (
    *("--budget", "3KB", "--trials", "4", "--set", "student.epochs=10", "--set", "confirm.seeds=1", "--json"),
    *("--set", "search.early_stopping=false", "--set", "relabel.workers=1"),
)


@pytest.fixture(scope="module")
def experts(ray_cluster, in_process, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("experts")
    line = (
        *("--arch", "convnet", "--epochs", "6", "--seeds", "2"),
        *("--keep-at", "1,6", "--out", folder / "one.safetensors"),
    )
    in_process("teacher", "fit", "--images", "digits:train", "--eval", "digits:val", *line)
    return str(folder / "one-seed?.safetensors")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def found(experts, in_process, root) -> dict:
    given = ("--set", f"teacher.experts={experts}", "--set", "teacher.epoch=search")
    return in_process("sweep", "digits", "--root", root, *SMALL, *given).document


def test_trials_have_an_epoch_and_the_winner_its_labels(found, root, experts):
    trials = [json.loads(path.read_bytes()) for path in (root / "digits" / "trials").glob("*-seed0.json")]
    assert {trial["choice"]["epoch"] for trial in trials} == {1, 6}
    (point,) = found["points"]
    epoch = point["config"]["epoch"]
    expert = load_teachers(",".join(map(str, trajectory(experts)[epoch])), image_class_names=NAMES)
    spec = LabelSet.open(point["labels"]).spec
    assert spec.teacher.fingerprint == expert.fingerprint
    assert spec.teacher.architecture == "2 x convnet"
    assert LabelSet.open(point["labels"]).num_bytes["total"] == point["label_bytes"] <= 3000


def test_baselines_are_of_the_last_epoch(found, root, experts):
    last = load_teachers(",".join(map(str, trajectory(experts)[6])), image_class_names=NAMES)
    assert found["teacher"]["fingerprint"] == last.fingerprint
    assert not any("epoch" in point["config"] for point in found["baselines"])


def test_report_has_the_epoch(found, root, in_process):
    report = root / "digits" / "report"
    header, first = (report / "front.csv").read_text().splitlines()[:2]
    assert header.split(",")[-1] == "epoch"
    assert first.split(",")[-1] == str(found["points"][0]["config"]["epoch"])
    assert "| Epoch |" in (report / "front.md").read_text()


def test_one_epoch_of_them(experts):
    expected = {epoch: load_teachers(",".join(map(str, paths)), image_class_names=NAMES).fingerprint
                for epoch, paths in trajectory(experts).items()}  # fmt: skip
    for epoch, one in ((1, 1), (6, 6), (None, 6), ("search", 6)):
        config = TeacherConfig(experts=experts, epoch=epoch)
        assert open_teacher_for(config, NAMES).fingerprint == expected[one]
        assert {each: teacher.fingerprint for each, teacher in experts_by_epoch(config, NAMES).items()} == expected


def test_an_epoch_that_was_not_kept(experts, in_process, tmp_path):
    given = ("--set", f"teacher.experts={experts}", "--set", "teacher.epoch=4")
    refused = in_process("sweep", "digits", "--root", tmp_path, *SMALL, *given)
    assert refused.exit_code == 2
    assert "teacher.epoch 4: no expert was kept then; there are 1, 6, or search" in refused.stderr
