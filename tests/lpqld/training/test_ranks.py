"""Two processes train one student as one does, for real: gloo on the CPU."""

import json
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.training.dataset import ViewDataset
from lpqld.training.loop import EpochMetrics, train
from lpqld.training.ranks import Ranks
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from tests.checks import made_up_labels
from tests.conftest import CHECKOUT, command_environment

pytestmark = pytest.mark.integration  # starts processes of its own

RECIPE = Recipe(
    epochs=4,
    batch_size=15,
    optimizer="sgd",
    lr=0.02,
    momentum=0.5,
    temperature="8:2:cosine",
    ca="paper",
    precision="float32",
)
RECIPES = {
    "batch norm": RECIPE,
    "batch norm with an activation, of timm": replace(RECIPE, architecture="test_efficientnet", epochs=2),
    "parts": replace(RECIPE, architecture="test_convnext", accumulate=3, epochs=2),
    "adamw, fit, average": replace(RECIPE, optimizer="adamw", lr=1e-3, ca="fit", ema=0.5),
}

RANK = """
import json, sys
import torch, torch.distributed as dist
from tests.lpqld.training import test_ranks as t
address, rank, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
for number, recipe in enumerate(t.RECIPES.values()):
    t.keep(*t.run(recipe, t.Ranks.connected()), folder, f"{number}-{rank}")
dist.destroy_process_group()
"""


def run(recipe: Recipe, ranks: Ranks) -> tuple[Student, list[EpochMetrics]]:
    size = 8 if recipe.architecture == "convnet" else 32
    images = ImageSet.open("digits:train", size=size).sample_per_class(3, 0)
    data = ViewDataset(images, encode(made_up_labels(images), TopK(3, 0.25)).decode())
    student = Student(recipe, 10, 0)
    return student, list(train(student, data, recipe, seed=0, validation=images, evaluate_every=2, ranks=ranks))


def keep(student: Student, metrics: list[EpochMetrics], folder: str, name: str) -> None:
    torch.save(student.state_dict(), Path(folder) / f"{name}.pt")
    (Path(folder) / f"{name}.json").write_text(json.dumps([asdict(each) for each in metrics]))


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """A folder with what both of two processes had in the end."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    environment = {**command_environment(), "PYTHONPATH": str(CHECKOUT), "GLOO_SOCKET_IFNAME": "lo"}
    line = [sys.executable, "-c", RANK, address]
    ranks = [
        subprocess.Popen([*line, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 0, err[-3000:]
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_the_result_is_that_of_one_process_but_for_rounding(name, together):
    number = list(RECIPES).index(name)
    student, metrics = run(RECIPES[name], Ranks())
    found = json.loads((together / f"{number}-0.json").read_text())
    for one, other in zip(metrics, found, strict=True):
        expected = asdict(one)
        assert expected.pop("val_accuracy") == other.pop("val_accuracy")
        assert other == pytest.approx(expected, rel=2e-3)
    weights = torch.load(together / f"{number}-0.pt", weights_only=True)
    assert list(weights) == list(student.state_dict())
    start = Student(RECIPES[name], 10, 0).state_dict()
    for key, tensor in student.state_dict().items():
        moved = float((tensor - start[key]).float().norm())
        assert float((weights[key] - tensor).float().norm()) <= 0.02 * moved + 1e-5, key


@pytest.mark.parametrize("number", range(len(RECIPES)), ids=list(RECIPES))
def test_all_processes_end_with_the_same_weights(number, together):
    one, other = (torch.load(together / f"{number}-{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_step_too_small_for_so_many_is_refused(images):
    data = ViewDataset(images, encode(made_up_labels(images), TopK(3, 0.25)).decode())
    with pytest.raises(ConfigError, match=r"lower accumulate \(3\) or the number of workers \(6\)"):
        next(train(Student(RECIPE, 10, 0), data, replace(RECIPE, accumulate=3), seed=0, ranks=Ranks(0, 6)))
