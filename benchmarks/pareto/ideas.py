"""What could beat the paper, tried one by one on the same label bytes: docs/findings.md tells what came of it.

Run as `python benchmarks/pareto/ideas.py cifar10-10 [--only IDEA ...] [--table]` after `pareto.py` has made images,
labels and the row `ours` of the ablation. What `lpqld train` has an option for is a row of the ablation; this is the
rest: other targets, losses, orders and labels, put in the place of the training's own. Every training is a small JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import ray
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_sets import DATA_SETS, DataSet, data_set
from idea_labels import Given, bits_by_difficulty, diverse_crops, of_two_teachers
from idea_losses import compensated, plain_where_hard, reversed_kl, squared_error, with_cross_entropy
from idea_targets import FrozenBatches, HardInTheMiddle, MixedHardInTheMiddle, TemperaturePerClass, TemperaturePerLabel
from pareto import RESULTS, file_name, result_file, spread
from rows import rows_of
from student_jobs import on_one_cpu, write_as_they_finish

from lpqld.images import ImageSet
from lpqld.labels import Labels, LabelSet
from lpqld.models import accuracy
from lpqld.training import EpochMetrics, Recipe, Student, ViewDataset, kl_divergence, train
from sweeps.cluster import cluster, use_assigned_resources

Loss = Callable[..., torch.Tensor]
_BASE = "ours"  # the row of the ablation that all share labels and bytes with


@dataclass(frozen=True)
class Idea:
    """One thing that is done otherwise.

    Attributes:
        name: of the idea and of its files.
        labels: other labels of at most the budget, made once.
        data: other views, targets or orders of them.
        loss: in place of `kl_divergence`.
        recipe: fields of the recipe.
    """

    name: str
    labels: Callable[[Given], Labels] = lambda given: given.labels
    data: type[ViewDataset] = ViewDataset
    loss: Loss = kl_divergence
    recipe: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[data.name for data in DATA_SETS])
    parser.add_argument("--only", nargs="+", help="ideas whose names begin so")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-pareto")
    arguments = parser.parse_args()
    data = data_set(arguments.data)
    chosen = [idea for idea in IDEAS if idea.name.startswith(tuple(arguments.only or [""]))]
    if not arguments.table:
        run(data, chosen, arguments.cache / data.folder, arguments.seeds)
    print(markdown(data, chosen))


def run(data: DataSet, ideas: Sequence[Idea], folder: Path, seeds: int) -> None:
    """Every training that is not there yet, a CPU each."""
    pending = [(idea, seed) for idea in ideas for seed in range(1, seeds + 1) if not path_of(data, idea, seed).exists()]
    if not pending:
        return
    given = open_given(data, folder)
    with cluster(None):
        shared = ray.put(given)
        train_one = on_one_cpu(student)
        made = {idea.name: ray.put(idea.labels(given)) for idea in {idea.name: idea for idea, _ in pending}.values()}
        write_as_they_finish(
            {
                train_one.remote(IDEAS.index(idea), shared, made[idea.name], seed): path_of(data, idea, seed)
                for idea, seed in pending
            }
        )


def open_given(data: DataSet, folder: Path) -> Given:
    """Images and labels that `pareto.py` has made."""
    (row,) = (row for row in rows_of(data) if row.name == _BASE)
    found = json.loads(result_file(data, row).read_bytes())
    images = ImageSet.open(folder / "images")
    return Given(
        images=images,
        labels=LabelSet.open(folder / "labels" / file_name(_BASE)).labels,
        master=LabelSet.open(folder / row.source).labels,
        recipe=Recipe.from_json(found["recipe"]),
        budget=found["label_bytes"],
        test=data.opened(data.test, images),
        val=data.opened(data.val, images),
    )


def student(number: int, given: Given, labels: Labels, seed: int) -> dict[str, Any]:
    """One training of the idea of that number."""
    device, idea = use_assigned_resources(cpus=1), IDEAS[number]
    recipe = replace(given.recipe, **idea.recipe)
    network = Student(recipe, given.images.num_classes, seed)
    data = idea.data(given.images, labels, device)
    with mock.patch("lpqld.training.loop.kl_divergence", idea.loss):
        history = list(train(network, data, recipe, seed=seed))
    return {
        "idea": idea.name,
        "seed": seed,
        "val_accuracy": accuracy(network, given.val),
        "accuracy": accuracy(network, given.test),
        "num_views": labels.spec.num_views,
        "recipe": recipe.to_json(),
        # For the figure of temperatures: report.py.
        **({"temperatures": temperatures(history)} if "ca" in idea.recipe else {}),
    }


def temperatures(history: Sequence[EpochMetrics]) -> dict[str, list[float]]:
    """Of the teacher and of the student, after every epoch."""
    return {
        "teacher": [float(f"{metrics.teacher_temperature:.4g}") for metrics in history],
        "student": [float(f"{metrics.student_temperature:.4g}") for metrics in history],
    }


# Where tau moves, and with it the gradient.
_CALIBRATED = {"temperature": "20:2:step", "ca": "fit"}
IDEAS = (
    Idea("base"),
    Idea("hard labels in the middle third", data=HardInTheMiddle, loss=plain_where_hard),
    Idea("hard labels of both mixed images in the middle third", data=MixedHardInTheMiddle, loss=plain_where_hard),
    Idea("temperature per label", data=TemperaturePerLabel),
    Idea("temperature per class", data=TemperaturePerClass),
    Idea("frozen batches at random", data=FrozenBatches),
    Idea("T 20:2:step, CA paper", recipe={**_CALIBRATED, "ca": "paper"}),
    Idea("T 20:2:step, CA fit", recipe=_CALIBRATED),
    Idea("T 20:2:step, CA fit, gradient times tau", loss=compensated, recipe=_CALIBRATED),
    Idea("a tenth of cross-entropy", loss=with_cross_entropy),
    Idea("squared error of logits", loss=squared_error),
    Idea("KL both ways", loss=reversed_kl),
    Idea("two teachers", labels=of_two_teachers),
    Idea("bits by difficulty", labels=bits_by_difficulty),
    Idea("diverse crops", labels=diverse_crops),
    Idea("SGD", recipe={"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4, "square_temperature": True}),
)


def path_of(data: DataSet, idea: Idea, seed: int) -> Path:
    return RESULTS / data.folder / "ideas" / f"{file_name(idea.name)}-seed{seed}.json"


def markdown(data: DataSet, ideas: Sequence[Idea]) -> str:
    """What is there, in Markdown."""
    lines = ["| idea | validation, % | test, % | over the base |", "|---|---:|---:|---:|"]
    base = statistics.mean(values_of(data, IDEAS[0], "val_accuracy") or [float("nan")])
    for idea in ideas:
        found, test = values_of(data, idea, "val_accuracy"), values_of(data, idea, "accuracy")
        if found:
            gain = 100 * (statistics.mean(found) - base)
            lines.append(f"| {idea.name} | {spread(found)} | {spread(test)} | {gain:+.1f} |")
    return "\n".join(lines)


def values_of(data: DataSet, idea: Idea, key: str) -> list[float]:
    paths = sorted(path_of(data, idea, 0).parent.glob(f"{file_name(idea.name)}-seed*.json"))
    return [json.loads(path.read_bytes())[key] for path in paths]


if __name__ == "__main__":
    main()
