"""Teachers of several seeds on Ray, their checkpoints along the way, and what an interruption leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.models.fit import fit_teacher
from lpqld.models.teacher import load_teacher
from lpqld.progress import SILENT
from sweeps.jobs.expert_files import trajectory
from sweeps.jobs.fit_teachers import TeacherFit, fit_experts, seed_path
from tests.conftest import kill_9, started, wait_until
from tests.heard import Heard

FIT = TeacherFit("convnet", epochs=4, lr=3e-3, batch_size=64, keep_at=(1, 3))
COMMAND = ("teacher", "fit", "--images", "digits:train", "--eval", "digits:test", "--arch", "convnet", "--json")


@pytest.fixture(scope="module")
def digits() -> tuple[ImageSet, ImageSet]:
    return ImageSet.open("digits:train").first_per_class(20), ImageSet.open("digits:test")


@pytest.fixture(scope="module")
def experts(ray_cluster, digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("experts") / "digits.safetensors"
    heard = Heard()
    found = fitted(digits, path, progress=heard)
    assert heard.counts == [("fit", 1, 2), ("fit", 2, 2)]
    return path, found


def fitted(digits, path, fit=FIT, progress=SILENT):
    return fit_experts(*digits, {seed: seed_path(path, seed) for seed in (3, 4)}, fit, progress=progress)


def weights(path: object) -> dict[str, torch.Tensor]:
    return load_teacher(Path(str(path)), image_class_names=tuple("0123456789")).model.state_dict()


def test_each_seed_has_its_files(experts):
    path, found = experts
    names = {"digits-seed3", "digits-seed4"}
    kept = {f"{name}{end}" for name in names for end in ("", "-epoch1", "-epoch3")}
    assert {file.stem for file in path.parent.glob("*.safetensors")} == kept
    assert [Path(each.path).stem for each in found] == ["digits-seed3", "digits-seed4"]
    assert all(0.3 < each.accuracy <= 1 for each in found)
    assert not list(path.parent.glob(".*")), "no state is left"


def test_a_checkpoint_is_the_teacher_as_it_was_then(experts, digits, one_thread):
    as_it_was = {}

    def keep(epoch, model, spec):
        as_it_was[epoch] = {name: value.clone() for name, value in model.state_dict().items()}

    fit_teacher(
        digits[0], architecture="convnet", epochs=4, seed=3, lr=3e-3, batch_size=64, keep_at=(1, 3, 4), keep=keep
    )
    _, (found, _) = experts
    for epoch, file in zip((1, 3, 4), (*found.checkpoints, found.path), strict=True):
        assert all(torch.equal(value, as_it_was[epoch][name]) for name, value in weights(file).items())


def test_the_same_again_fits_nothing_and_another_fit_does(experts, digits):
    path, found = experts
    before = {file: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    assert fitted(digits, path) == found
    assert {file: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before
    Path(found[0].checkpoints[1]).unlink()
    assert fitted(digits, path) == found
    changed = {file for file, time in before.items() if not file.exists() or file.stat().st_mtime_ns != time}
    assert {file.stem.partition("-epoch")[0] for file in changed} == {"digits-seed3"}


def test_killed_it_leaves_its_checkpoints_and_another_fit_takes_its_place(tmp_path, in_process):
    path, err = tmp_path / "one.safetensors", tmp_path / "err"
    line = (*COMMAND, "--epochs", "400", "--keep-at", "log:4", "--out", str(path))
    with started(line, tmp_path / "out", err) as process:
        wait_until((tmp_path / "one-epoch54.safetensors").exists, process, err)
        kill_9(process)
    assert not path.exists()
    with pytest.raises(ConfigError, match="its fit was interrupted"):
        trajectory(str(path))
    short = (*COMMAND, "--epochs", "3", "--keep-every", "2", "--out", str(path))
    document = in_process(*short).document
    names = ["one-epoch2.safetensors", "one-epoch3.safetensors"]
    assert [Path(file).name for file in document["checkpoints"]] == names, "the last one, too"
    assert json.loads(path.with_suffix(".json").read_text())["accuracy"] == document["accuracy"]
    assert sorted(file.name for file in tmp_path.glob("*-epoch*")) == names, "none of another fit is left"
    assert list(trajectory(str(path))) == [2, 3]


def test_other_test_images_measure_and_fit_nothing(digits, tmp_path):
    train, test = digits
    paths = {3: tmp_path / "one.safetensors"}
    (first,) = fit_experts(train, test, paths, FIT)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.safetensors")}
    (second,) = fit_experts(train, test.first_per_class(5), paths, FIT)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert second.checkpoints == first.checkpoints
    assert second.accuracy != first.accuracy
    assert fit_experts(train, test, paths, FIT) == [first]


def test_a_fit_that_cannot_begin_leaves_the_one_before(digits, tmp_path):
    paths = {3: tmp_path / "one.safetensors"}
    fit_experts(*digits, paths, FIT)
    with pytest.raises(ConfigError, match="convnt"):
        fit_experts(*digits, paths, replace(FIT, architecture="convnt"))
    assert list(trajectory(str(paths[3]))) == [1, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep-every", "2", "--keep-at", "1"), "--keep-every and --keep-at both say"),
        (("--keep-at", "31"), "expected a list of epochs from 1 to 30"),
        (("--keep-every", "31"), "every:N with N of at most 30"),
        (("--seeds", "2", "--save", "somewhere"), "--save takes one teacher"),
        (("--out", "teacher.pth"), "a checkpoint is written as .safetensors"),
    ],
)
def test_wrong_options(in_process, options, message):
    done = in_process(*COMMAND, *options)
    assert done.exit_code == ConfigError.exit_code
    assert message in done.stderr
