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

import numpy as np
import ray
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_sets import DATA_SETS, DataSet
from label_students import cpu_name, master_labels, versions
from pareto import file_name, result_file, spread
from real_data import DATA
from rows import rows_of

import lpqld.training
from lpqld.budget import fill_budget
from lpqld.codec import Dense, Logits
from lpqld.codec.base import dense_ids
from lpqld.dataset import LabelBatch, ViewDataset
from lpqld.evaluation import accuracy
from lpqld.images import ImageSet
from lpqld.labels import Labels, LabelSet
from lpqld.loss import kl_divergence
from lpqld.recipe import Recipe
from lpqld.store import write_atomically
from lpqld.student import Student
from lpqld.targets import SoftTargets
from lpqld.teacher import load_teacher
from lpqld.training import train
from sweeps.cluster import cluster, use_assigned_resources

Loss = Callable[..., torch.Tensor]
_RESULTS = Path(__file__).resolve().parent / "results"
_BASE = "ours"  # the row of the ablation that all share labels and bytes with


@dataclass(frozen=True)
class Given:
    """What every idea starts from.

    Attributes:
        images: distilled.
        labels: the base row's, decoded.
        master: every view's logits.
        recipe: the base row's.
        budget: bytes of the base row's labels on disk.
        test, train: measured at the end; `train` chooses, the test set is only told.
    """

    images: ImageSet
    labels: Labels
    master: Labels
    recipe: Recipe
    budget: int
    test: ImageSet
    train: ImageSet


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
    (data,) = (data for data in DATA_SETS if data.name == arguments.data)
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
        train_one = ray.remote(student).options(num_cpus=1)
        made = {idea.name: ray.put(idea.labels(given)) for idea in {idea.name: idea for idea, _ in pending}.values()}
        running = {
            train_one.remote(IDEAS.index(idea), shared, made[idea.name], seed): path_of(data, idea, seed)
            for idea, seed in pending
        }
        while running:
            (done,), _ = ray.wait(list(running))
            path, found = running.pop(done), ray.get(done)
            write_atomically(path, json.dumps({**found, "machine": cpu_name(), "versions": versions()}).encode())
            print(f"{path.name}: {found['val_accuracy']:.3f} {found['accuracy']:.3f}", file=sys.stderr, flush=True)


def open_given(data: DataSet, folder: Path) -> Given:
    """Images and labels that `pareto.py` has made."""
    (row,) = (row for row in rows_of(data) if row.name == _BASE)
    found = json.loads(result_file(data, row).read_bytes())
    images = ImageSet.open(folder / "images")
    opened = {
        name: ImageSet.open(where.replace("{data}", str(DATA)), size=data.size, class_names=images.class_names)
        for name, where in (("test", data.test), ("train", data.train))
    }
    return Given(
        images=images,
        labels=LabelSet.open(folder / "labels" / file_name(_BASE)).labels,
        master=LabelSet.open(folder / "all").labels,
        recipe=Recipe.from_json(found["recipe"]),
        budget=found["label_bytes"],
        **opened,
    )


def student(number: int, given: Given, labels: Labels, seed: int) -> dict[str, Any]:
    """One training of the idea of that number."""
    device, idea = use_assigned_resources(cpus=1), IDEAS[number]
    recipe = replace(given.recipe, **idea.recipe)
    network = Student(recipe, given.images.num_classes, seed)
    data = idea.data(given.images, labels, device)
    with mock.patch.object(lpqld.training, "kl_divergence", idea.loss):
        for _ in train(network, data, recipe, seed=seed):
            pass
    return {
        "idea": idea.name,
        "seed": seed,
        "val_accuracy": accuracy(network, given.train),
        "accuracy": accuracy(network, given.test),
        "num_views": labels.spec.num_views,
        "recipe": recipe.to_json(),
    }


# Targets


@dataclass(frozen=True)
class _HardBatch(LabelBatch):
    """Labels are the classes of the images."""

    def soft_targets(self, temperature: float) -> SoftTargets:
        return SoftTargets(self.image_labels[:, None], torch.ones(len(self.image_labels), 1))


class HardInTheMiddle(ViewDataset):
    """The class of the image, not the label, in the middle third of the epochs: no bytes (HALD, arXiv 2512.15647)."""

    _epoch = 0

    def batches(self, epoch: int, batch_size: int, seed: int = 0) -> list[NDArray[np.int64]]:
        self._epoch = epoch
        return super().batches(epoch, batch_size, seed)

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        batch = super().__getitem__(positions)
        return _HardBatch(**vars(batch)) if 100 <= self._epoch < 200 else batch


@dataclass(frozen=True)
class _EvenBatch(LabelBatch):
    """Each label at a temperature of its own: where its values spread as much as labels do on average."""

    def soft_targets(self, temperature: float) -> SoftTargets:
        spread = self.values.std(1, keepdim=True).clamp(min=1e-3)
        return SoftTargets.softmax(
            self.ids, self.values * (spread.mean() / spread), self.absent, self.num_classes, temperature
        )


class TemperaturePerLabel(ViewDataset):
    """Labels scaled to the same spread."""

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        return _EvenBatch(**vars(super().__getitem__(positions)))


class TemperaturePerClass(ViewDataset):
    """Labels scaled so that those of every class spread alike on average."""

    _scales: torch.Tensor | None = None

    def __getitem__(self, positions: int | Sequence[int] | NDArray[np.int64]) -> LabelBatch:
        batch = super().__getitem__(positions)
        if self._scales is None:
            all_labels = super().__getitem__(np.arange(self.num_labels))
            spreads, classes = all_labels.values.std(1), all_labels.image_labels
            means = torch.stack([spreads[classes == label].mean() for label in range(batch.num_classes)])
            self._scales = means.mean() / means
        return replace(batch, values=batch.values * self._scales[batch.image_labels][:, None])


class FrozenBatches(ViewDataset):
    """Batches as the reference reuses them: fixed ones of 20 views, drawn at random each epoch."""

    def batches(self, epoch: int, batch_size: int, seed: int = 0) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng(seed)
        order = generator.permutation(self.num_labels)
        frozen = np.array_split(order, max(1, round(self.num_labels / batch_size)))
        drawn = np.random.default_rng((seed, epoch)).integers(len(frozen), size=self.images.num_images // batch_size)
        return [frozen[index] for index in drawn]


# Losses


def compensated(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """KL with the gradient's 1 / tau undone."""
    return kl_divergence(logits, targets, tau, num_views=num_views) * tau


def with_cross_entropy(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """KL, and a tenth of cross-entropy with the label's first class."""
    best = targets.ids.gather(1, targets.probabilities.argmax(1, keepdim=True))[:, 0]
    entropy = torch.nn.functional.cross_entropy(logits.float(), best, reduction="sum") / num_views
    return kl_divergence(logits, targets, tau, num_views=num_views) + 0.1 * entropy


def squared_error(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """Mean squared error between log-probabilities less their means, of the kept classes."""
    wanted = targets.probabilities.clamp(min=1e-6).log()
    found = logits.float().gather(1, targets.ids) / tau
    difference = (found - found.mean(1, keepdim=True)) - (wanted - wanted.mean(1, keepdim=True))
    return difference.square().mean(1).sum() / num_views


def reversed_kl(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """Half of KL from targets to student, half the other way round."""
    log_student = (logits.float() / tau).log_softmax(1)
    log_target = targets.dense(logits.shape[1]).clamp(min=1e-4).log()
    backwards = (log_student.exp() * (log_student - log_target)).sum() / num_views
    return 0.5 * (kl_divergence(logits, targets, tau, num_views=num_views) + backwards)


# Labels


def of_two_teachers(given: Given) -> Labels:
    """The mean of the logits of the teacher and a ResNet-56."""
    other = load_teacher(
        DATA / "weights" / "resnet56-4bfd9763.th",
        architecture="cifar_resnet56",
        image_class_names=given.images.class_names,
    )
    spec = given.master.spec
    first = 20  # views of an image; no budget here holds more
    more = master_labels(other, given.images, spec.view_rule, first, Path(tempfile.gettempdir()) / "lpqld-ideas", print)
    own = given.master.logits.take(slice(0, more.spec.num_views)).dense(spec.num_classes)
    mean = (own + more.logits.values) / 2
    count = more.spec.num_views
    labels = Labels(replace(spec, num_views=count, codec=Dense()), Logits(dense_ids(*mean.shape), mean))
    return fill_budget(labels, given.labels.spec.codec, given.budget).decode()


def bits_by_difficulty(given: Given) -> Labels:
    """Half of the classes, those that the teacher is less sure of, a bit more each logit; the others a bit less."""
    spec, codec = given.labels.spec, given.labels.spec.codec
    sure = given.labels.logits.dense(spec.num_classes)
    sure = np.exp(sure - sure.max(1, keepdims=True))
    sure = 1 / sure.sum(1)  # the largest probability
    classes = given.images.labels.numpy()[np.arange(spec.num_views) % spec.num_images]
    means = np.array([sure[classes == label].mean() for label in range(spec.num_classes)])
    hard = np.isin(classes, np.argsort(means)[: spec.num_classes // 2])
    step = getattr(codec, "step", None)
    assert step is not None, "the base row's labels are quantized"
    kept = given.master.logits.take(slice(0, spec.num_views))
    finer, coarser = (replace(codec, step=step * factor) for factor in (0.5, 2.0))  # type: ignore[type-var]
    values = np.where(
        hard[:, None],
        finer.roundtrip(kept, num_classes=spec.num_classes).dense(spec.num_classes),
        coarser.roundtrip(kept, num_classes=spec.num_classes).dense(spec.num_classes),
    )
    halves = [(finer, hard), (coarser, ~hard)]
    sizes = [len(codec.encode(kept.dense(spec.num_classes)[rows])) for codec, rows in halves]
    print(f"bits by difficulty: {sum(sizes)} bytes of payload, {given.budget} on disk of the base row", file=sys.stderr)
    return Labels(replace(spec, codec=Dense()), Logits(dense_ids(*values.shape), values.astype(np.float32)))


IDEAS = (
    Idea("base"),
    Idea("hard labels in the middle third", data=HardInTheMiddle),
    Idea("temperature per label", data=TemperaturePerLabel),
    Idea("temperature per class", data=TemperaturePerClass),
    Idea("frozen batches at random", data=FrozenBatches),
    Idea("gradient times tau", loss=compensated),
    Idea("a tenth of cross-entropy", loss=with_cross_entropy),
    Idea("squared error of logits", loss=squared_error),
    Idea("KL both ways", loss=reversed_kl),
    Idea("two teachers", labels=of_two_teachers),
    Idea("bits by difficulty", labels=bits_by_difficulty),
    Idea("SGD", recipe={"optimizer": "sgd", "lr": 0.1, "weight_decay": 1e-4}),
    Idea("weight decay 0.1", recipe={"weight_decay": 0.1}),
)


def path_of(data: DataSet, idea: Idea, seed: int) -> Path:
    return _RESULTS / data.folder / "ideas" / f"{file_name(idea.name)}-seed{seed}.json"


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
