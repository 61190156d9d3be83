"""A training killed with `kill -9` and run again ends with the weights of one that was not."""

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from lpqld.codecs.topk import TopK
from lpqld.errors import DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.storage.checkpoint import TrainingCheckpoint
from lpqld.training.dataset import ViewDataset
from lpqld.training.loop import DivergedError, train
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from tests.checks import made_up_labels
from tests.conftest import CHECKOUT, command_environment

pytestmark = pytest.mark.integration  # starts processes of its own

RECIPE = Recipe(epochs=12, batch_size=15, lr=2e-3, temperature="20:2:cosine", ca="fit", ema=0.9)
OTHER_RECIPE = replace(RECIPE, optimizer="sgd", lr=0.02, ca="paper", ema=0.0, accumulate=2)

# Trains slowly, and says every epoch.
TRAINING = """
import sys, time
import torch
from lpqld.images import ImageSet
from tests.lpqld.training import test_checkpoint as t
torch.set_num_threads(1)
images = ImageSet.open("digits:train").sample_per_class(3, 0)
for metrics in t.training(t.student_of(t.RECIPE), images, t.RECIPE, sys.argv[1]):
    print(metrics, flush=True)
    time.sleep(0.2)
"""


class Dropping(Student):
    """A student with a random layer."""

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nn.functional.dropout(views, 0.2, self.training))


def student_of(recipe: Recipe) -> Student:
    return Dropping(recipe, 10, 0)


def training(student, images, recipe, folder):
    data = ViewDataset(images, encode(made_up_labels(images), TopK(3, 0.25)).decode())
    return train(student, data, recipe, seed=0, checkpoint=Path(folder) / "state.checkpoint", checkpoint_seconds=0)


def killed(folder: Path, images: ImageSet) -> list[str]:
    """Train in a process, kill it after five epochs; what it said of them."""
    line = [sys.executable, "-c", TRAINING, str(folder)]
    environment = {**command_environment(), "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = [process.stdout.readline().strip() for _ in range(5)]
        process.kill()
    return said


def closed(folder: Path, images: ImageSet, recipe: Recipe) -> list[str]:
    """Train here, and stop after five epochs."""
    running = training(student_of(recipe), images, recipe, folder)
    said = [str(next(running)) for _ in range(5)]
    running.close()
    return said


@pytest.mark.parametrize(
    ("recipe", "interrupted"),
    [
        (RECIPE, killed),
        (RECIPE, partial(closed, recipe=RECIPE)),
        (OTHER_RECIPE, partial(closed, recipe=OTHER_RECIPE)),
    ],
    ids=["kill -9", "closed", "closed, SGD"],
)
def test_run_again_it_ends_bit_for_bit_as_if_uninterrupted(recipe, interrupted, images, tmp_path):
    said = interrupted(tmp_path, images)
    assert (tmp_path / "state.checkpoint").is_file()
    again, whole = student_of(recipe), student_of(recipe)
    metrics = list(training(again, images, recipe, tmp_path))
    assert [str(each) for each in metrics[:5]] == said
    assert list(training(whole, images, recipe, tmp_path / "whole")) == metrics
    found = again.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in whole.state_dict().items())
    assert [path.name for path in tmp_path.rglob("*")] == ["whole"]


def test_it_goes_on_rather_than_beginning_anew(images, tmp_path):
    running = training(student_of(RECIPE), images, RECIPE, tmp_path)
    done = [next(running) for _ in range(8)]
    steps = []

    class Counting(Dropping):
        def forward(self, views):
            steps.append(self.training)
            return super().forward(views)

    assert list(training(Counting(RECIPE, 10, 0), images, RECIPE, tmp_path))[:8] == done
    assert sum(steps) == 4 * 2  # two steps an epoch


@pytest.mark.parametrize("recipe", [RECIPE, OTHER_RECIPE], ids=["average", "none"])
def test_what_a_checkpoint_has_is_what_earlier_versions_wrote(recipe, images, tmp_path):
    running = training(student_of(recipe), images, recipe, tmp_path)
    for _ in range(3):
        metrics = next(running)
    state = torch.load(tmp_path / "state.checkpoint", weights_only=True)
    assert list(state) == [
        "identity",
        "student",
        "optimizer",
        "average",
        "student_temperature",
        "calibrated",
        "metrics",
    ]
    assert state["metrics"][-1] == vars(metrics)
    assert state["calibrated"] == (2 if recipe.ca == "fit" else 0)
    assert (state["average"] is None) == (recipe.ema == 0)


def test_the_checkpoint_of_another_training_is_refused(images, tmp_path):
    next(training(student_of(RECIPE), images, RECIPE, tmp_path))
    with pytest.raises(DataError, match=r"checkpoint of another training.*delete it to begin anew"):
        next(training(student_of(RECIPE), images, replace(RECIPE, lr=1e-3), tmp_path))


def test_a_damaged_checkpoint_is_refused_and_nothing_is_unpickled(images, tmp_path):
    path = tmp_path / "state.checkpoint"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"state\.checkpoint is no checkpoint of a training"):
        next(training(student_of(RECIPE), images, RECIPE, tmp_path))
    torch.save({"identity": "x", "student": subprocess.Popen}, path)
    with pytest.raises(DataError, match="no checkpoint"):
        next(training(student_of(RECIPE), images, RECIPE, tmp_path))


def test_damage_anywhere_is_named_or_harmless(tmp_path):
    kept = TrainingCheckpoint(tmp_path / "state", "x", 0.0)
    kept.save({"tensor": torch.arange(8.0), "epochs": [1, 2]})
    whole, device = kept.read(), torch.device("cpu")
    refused = 0
    for start in range(0, len(whole), 16):
        damaged = whole[:start] + bytes(byte ^ 0xA5 for byte in whole[start : start + 16]) + whole[start + 16 :]
        try:
            kept.load(damaged, device)
        except DataError:
            refused += 1
    assert refused > len(whole) // 16 // 3
    for length in range(0, len(whole), 29):
        with pytest.raises(DataError):
            kept.load(whole[:length], device)


def test_a_diverged_training_leaves_no_checkpoint(images, tmp_path):
    running = training(student := student_of(RECIPE), images, RECIPE, tmp_path)
    next(running)
    assert (tmp_path / "state.checkpoint").is_file()
    with torch.no_grad():
        next(student.parameters()).fill_(float("nan"))
    plain = replace(RECIPE, ema=0.0)
    running = training(student, images, plain, tmp_path / "nan")
    with pytest.raises(DivergedError):
        list(running)
    assert not (tmp_path / "nan" / "state.checkpoint").exists()


def test_states_are_as_far_apart_as_asked_and_cost_little(tmp_path):
    kept = TrainingCheckpoint(tmp_path / "state", "x", 0.2)
    assert not kept.is_due()
    time.sleep(0.25)
    assert kept.is_due()
    kept.save({"tensor": torch.zeros(3)})
    assert not kept.is_due()
    assert kept.load(kept.read(), torch.device("cpu"))["tensor"].tolist() == [0, 0, 0]
    assert not TrainingCheckpoint(None, "x", 0.0).is_due()
