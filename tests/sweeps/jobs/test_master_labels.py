"""Masters are made once: another sweep finds them again, also one that needs fewer views."""

import shutil
from pathlib import Path

import pytest
import torch

from lpqld.images.image_set import ImageSet
from lpqld.models.teacher import Teacher
from sweeps.config.sweep import SweepConfig
from sweeps.jobs.master_labels import LABELS_FOLDER, Master, make_master
from tests.checks import equal_labels, untrained_teacher
from tests.heard import Heard

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("ray_cluster", "one_thread")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(2, seed=0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return untrained_teacher()


def config(name: str, views: int, **changed: object) -> SweepConfig:
    relabel = {"views": views, "batch_size": 20, "shard_views": 60, "workers": 1}
    return SweepConfig(name=name, relabel=relabel, views={"flip": False}, **changed)


@pytest.fixture(scope="module")
def root(images, teacher, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masters")
    make_master(config("first", 8), teacher, images, folder, CPU)
    return folder


def folders(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def made(
    config: SweepConfig, teacher: Teacher, images: ImageSet, root: Path
) -> tuple[Master, list[tuple[str, int, int]]]:
    heard = Heard()
    return make_master(config, teacher, images, root, CPU, heard), heard.counts


def test_another_sweep_with_another_student_does_not_relabel(root, images, teacher):
    before = folders(root)
    student = {"architecture": "cifar_resnet20", "epochs": 8}
    master, seen = made(config("second", 8, student=student), teacher, images, root)
    assert folders(root) == before
    assert seen[-1] == ("relabel", 3, 3)
    assert master.read().spec.num_views == 160


def test_fewer_views_are_the_first_of_the_larger_set(root, images, teacher, tmp_path):
    before = folders(root)
    master, _ = made(config("fewer", 4), teacher, images, root)
    assert folders(root) == before
    alone, _ = made(config("fewer", 4), teacher, images, tmp_path)
    assert equal_labels(master.read(), alone.read())
    assert len(list((tmp_path / LABELS_FOLDER).iterdir())) == 1
    assert master.fingerprint != alone.fingerprint, "sizes are kept by the files that they were measured on"


@pytest.mark.parametrize(
    "changed",
    [{"views": {"flip": True}}, {"relabel": {"views": 8, "batch_size": 10, "shard_views": 60, "workers": 1}}],
    ids=str,
)
def test_other_labels_are_other_masters(root, images, teacher, tmp_path, changed):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    wanted = SweepConfig(**{**config("other", 8).model_dump(), **changed})
    made(wanted, teacher, images, tmp_path)
    assert len(list((tmp_path / LABELS_FOLDER).iterdir())) == 2


def test_a_damaged_one_is_passed_over(root, images, teacher, tmp_path):
    broken = tmp_path / LABELS_FOLDER / "broken"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{")
    master, _ = made(config("third", 2), teacher, images, tmp_path)
    assert master.label_set.folder != broken
