"""Sweeps of data that a user brings, on real images: CIFAR-10, Tiny-ImageNet, ImageNet-1K, and 10,450 classes.

What is small here is the number of views, epochs and trials; images, teachers and class maps are the real ones.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lpqld.errors import DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import LabelSet
from lpqld.models.architectures import build
from lpqld.models.teacher import save_teacher
from lpqld.models.teacher_spec import TeacherSpec
from sweeps.config.load import load_config
from sweeps.report.result import SweepResult
from sweeps.sweep import run_sweep

pytestmark = pytest.mark.usefixtures("ray_cluster")

SHORT = {
    "relabel.workers": 1,
    "search.trials": 1,
    "confirm.seeds": 1,
    "student.architecture": "convnet",
    "student.warmup_epochs": 0,
}


def subset(path: Path, per_class: int, folder: Path) -> str:
    """Some images of every class, in the layout that lpqld writes."""
    ImageSet.open(str(path)).sample_per_class(per_class, seed=0).write(folder)
    return str(folder)


def check(result: SweepResult, kinds: set[str]) -> None:
    """What holds for every sweep, whatever its data."""
    assert any(point.on_front for point in result.points)
    for point in result.points:
        assert point.budget is not None
        assert point.labels is not None
        label_set = LabelSet.open(point.labels)
        label_set.verify()
        assert label_set.num_bytes["total"] == point.label_bytes <= point.budget
        assert 0 <= point.accuracy.mean <= 1
        assert point.val_accuracy > 0
    assert {point.config["kind"] for point in result.baselines} == kinds


def test_cifar10_with_a_pretrained_resnet20(shared_data, tmp_path, in_process: Callable[..., Any]):
    images = subset(shared_data / "cifar10" / "train10k.parquet", 5, tmp_path / "images")
    evaluation = subset(shared_data / "cifar10" / "test.parquet", 40, tmp_path / "eval")
    small = {**SHORT, "student.epochs": 20, "student.batch_size": 25, "search.budgets": "[x4]", "search.k": "[2, 3]"}
    done = in_process(
        *("sweep", "cifar10", "--images", images, "--eval", evaluation, "--ipc", 5, "--root", tmp_path / "runs"),
        *("--teacher", shared_data / "weights" / "resnet20-12fca82f.th", "--teacher-arch", "cifar_resnet20"),
        *itertools.chain.from_iterable(("--set", f"{key}={value}") for key, value in small.items()),
        "--json",
    )
    result = SweepResult.from_json(done.document)
    assert result.teacher["accuracy"] > 0.7
    assert result.teacher["architecture"] == "cifar_resnet20"
    assert result.all_label_bytes == pytest.approx(50 * 20 * 10 * 2, rel=0.2)
    assert result.points[0].label_bytes < 50 * 20 * 10 * 2
    check(result, {"hard", "all", "prune", "paper"})


@pytest.mark.slow
def test_tiny_imagenet_with_a_teacher_of_a_thousand_classes_cut_to_two_hundred(shared_data, tmp_path):
    tiny = shared_data / "tiny200"
    settings = {
        **SHORT,
        "images.source": subset(tiny / "train.parquet", 2, tmp_path / "images"),
        "images.ipc": 2,
        "images.size": 32,
        "eval.source": subset(tiny / "val.parquet", 10, tmp_path / "eval"),
        "teacher.source": str(shared_data / "weights" / "tf_efficientnet_lite0_timm.pth"),
        "teacher.architecture": "tf_efficientnet_lite0",
        "teacher.classes": "imagenet-1k",
        "teacher.mean": [0.5] * 3,
        "teacher.std": [0.5] * 3,
        "teacher.input_size": 96,
        "student.epochs": 6,
        "student.optimizer": "adamw",
        "student.lr": 0.002,
        "student.square_temperature": False,
        "search.lr": [0.001, 0.004],
        "search.budgets": ["x4", "x10"],
        "search.k": [5, 10],
    }
    result = run_sweep(load_config("tiny", settings), tmp_path / "runs")
    assert result.teacher["accuracy"] > 0.2
    assert result.all_label_bytes == pytest.approx(400 * 6 * 200 * 2, rel=0.02)
    check(result, {"hard", "all", "prune", "paper"})
    unmapped = {**settings, "name": "unmapped", "teacher.classes": str(tmp_path / "classes.txt")}
    (tmp_path / "classes.txt").write_text("\n".join(f"class {index}" for index in range(1000)))
    with pytest.raises(DataError, match="no output for 200 of the 200 classes"):
        run_sweep(load_config("tiny", unmapped), tmp_path / "runs")


@pytest.mark.slow
def test_imagenet_1k_on_a_thousand_photos(shared_data, tmp_path):
    photos = str(shared_data / "in1k-sample" / "in1k-sample-224.parquet")
    settings = {
        **SHORT,
        "images.source": photos,
        "images.ipc": 1,
        "images.size": 32,
        "eval.source": photos,
        "eval.val": photos,
        "teacher.source": str(shared_data / "weights" / "tf_efficientnet_lite0_timm.pth"),
        "teacher.architecture": "tf_efficientnet_lite0",
        "teacher.mean": [0.5] * 3,
        "teacher.std": [0.5] * 3,
        "teacher.input_size": 64,
        "student.epochs": 4,
        "search.budgets": ["x8", "x40"],
        "search.k": [10, 20],
    }
    result = run_sweep(load_config("in1k", settings), tmp_path / "runs")
    assert result.all_label_bytes == 1000 * 4 * 1000 * 2, "the master keeps 250 classes, so this is computed"
    assert [point.budget for point in result.points] == [1_000_000, 200_000]
    check(result, {"hard", "all", "prune", "paper"})
    assert any("250 of 1000 classes" in note for note in result.notes)
    (master,) = (tmp_path / "runs" / "labels").iterdir()
    labels = LabelSet.open(master)
    assert (labels.spec.num_views, labels.labels.logits.ids.shape[1]) == (4000, 250)
    assert labels.num_bytes["total"] == pytest.approx(4000 * (250 * 26 + 8) / 8, rel=0.02)  # ids of 10 bits, fp16


@pytest.mark.slow
def test_10450_classes_of_real_images(shared_data, tmp_path):
    num_classes = 10_450
    table = pq.read_table(shared_data / "tiny200" / "train.parquet").slice(0, num_classes)
    label = table.schema.get_field_index("label")
    images = tmp_path / "images.parquet"
    pq.write_table(table.set_column(label, "label", [np.arange(num_classes)]).select(["image", "label"]), images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = build("convnet", num_classes)
    save_teacher(tmp_path / "teacher.safetensors", teacher, TeacherSpec("convnet", num_classes, 16))
    settings = {
        **SHORT,
        "images.source": str(images),
        "images.ipc": 1,
        "images.size": 16,
        "eval.source": str(images),
        "eval.val": str(images),
        "teacher.source": str(tmp_path / "teacher.safetensors"),
        "teacher.architecture": "convnet",
        "teacher.input_size": 16,
        "relabel.k": 200,
        "student.epochs": 2,
        "student.batch_size": 200,
        "search.budgets": ["x50", "x100"],
        "search.k": [50, 100],
    }
    result = run_sweep(load_config("in21k", settings), tmp_path / "runs")
    num_views = 2 * num_classes
    assert result.all_label_bytes == num_views * num_classes * 2
    for point in result.points:
        label_set = LabelSet.open(point.labels or "")
        assert label_set.num_bytes["total"] == point.label_bytes <= (point.budget or 0)
        assert label_set.labels.logits.ids.shape == (label_set.spec.num_views, point.config["k"])
        assert label_set.spec.num_classes == num_classes
        assert label_set.labels.logits.ids.max() > 2**13, "ids need 14 bits"
    assert any(point.on_front for point in result.points)
    paper = [point for point in result.baselines if point.config["kind"] == "paper"]
    assert all(point.config["k"] == 199 for point in paper)
