"""Recovered images, class-wise and cross-class, beside random real ones: how varied they are and what they teach.

Run as `python benchmarks/recover.py [--only cifar10-10] [--seeds 3] [--table]`, with the package installed. For each
case (CIFAR-10 with the pretrained ResNet-20, IPC 10 and 50; tiny200 at 32 px with a ResNet-20 fitted here, IPC 10):
recover images as the presets do, measure the teacher's within-class similarity and accuracy on them, label 300 views of
each with the teacher, and train students on all labels and on a fortieth of them (the first views of every image). Each
finished piece is kept: images and labels in `--cache`, students beside this script. The data lies at
`LPQLD_SHARED_DATA` or `../shared/data`; hours on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from label_students import cpu_name, master_labels, versions
from relabel_speed import DATA

from lpqld.dataset import ViewDataset
from lpqld.diversity import within_class_similarity
from lpqld.evaluation import accuracy
from lpqld.fit import fit_teacher
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.recipe import Recipe
from lpqld.recover_recipe import RecoverRecipe
from lpqld.store import write_atomically
from lpqld.student import Student
from lpqld.teacher import Teacher, load_teacher, save_teacher
from lpqld.training import train
from lpqld.training_images import TrainingImages
from lpqld.views import ViewRule
from sweeps.cluster import cluster
from sweeps.synthesize import synthesize

_CPU = torch.device("cpu")
KINDS, LABELS = ("class", "cross", "real"), {"all": 1, "1/40": 40}
VIEWS_PER_IMAGE = 300
RULE = ViewRule(crop_scale=(0.25, 1.0))
_SIZE, _FIT_EPOCHS = 32, 60


@dataclass(frozen=True)
class Case:
    """Data, a teacher of it, and how many images of a class."""

    name: str
    train: Path
    test: Path
    ipc: int
    epochs: int
    recover: RecoverRecipe

    def teacher(self, cache: Path) -> Teacher:
        """The pretrained teacher, or one fitted to the training images and kept in `cache`."""
        names = TrainingImages.open(str(self.train), size=_SIZE).class_names
        if self.name.startswith("cifar10"):
            path, architecture = DATA / "weights" / "resnet20-12fca82f.th", "cifar_resnet20"
            return load_teacher(path, architecture=architecture, image_class_names=names)
        path = cache / "tiny200-teacher.safetensors"
        if not path.exists():
            images = ImageSet.open(str(self.train), size=_SIZE)
            save_teacher(path, *fit_teacher(images, architecture="cifar_resnet20", epochs=_FIT_EPOCHS, seed=0))
        return load_teacher(path, image_class_names=names)


CIFAR = DATA / "cifar10" / "train10k.parquet", DATA / "cifar10" / "test.parquet"
TINY = DATA / "tiny200" / "train.parquet", DATA / "tiny200" / "val.parquet"
CASES = (
    Case("cifar10-10", *CIFAR, 10, 300, RecoverRecipe()),
    Case("cifar10-50", *CIFAR, 50, 300, RecoverRecipe()),
    Case("tiny200-10", *TINY, 10, 300, RecoverRecipe()),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="some cases")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there already, in Markdown")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "recover")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-recover")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    if not arguments.table:
        for case in chosen:
            run(case, arguments.seeds, arguments.out, arguments.cache)
    print(table(chosen, arguments.out))


def run(case: Case, seeds: int, out: Path, cache: Path) -> None:
    """Everything of a case that is not there yet."""
    teacher = case.teacher(cache)
    test = ImageSet.open(
        str(case.test), size=_SIZE, class_names=TrainingImages.open(str(case.train), size=_SIZE).class_names
    )
    for kind in KINDS:
        images = images_of(case, kind, teacher, cache)
        kept(out / f"{case.name}-{kind}.json", lambda images=images: measure(teacher, images, test))  # type: ignore[misc]
        labels: Labels | None = None
        for seed in range(seeds):
            for name, divisor in LABELS.items():
                path = out / f"{case.name}-{kind}-{name.replace('/', '-')}-seed{seed}.json"
                if path.exists():
                    continue
                labels = labels or master_labels(teacher, images, RULE, VIEWS_PER_IMAGE, cache / case.name / kind, say)
                some = first_labels(labels, divisor)
                kept(path, lambda some=some, seed=seed, images=images: student(case, images, some, test, seed))  # type: ignore[misc]


def images_of(case: Case, kind: str, teacher: Teacher, cache: Path) -> ImageSet:
    """The images of a kind, recovered where they are not real."""
    if kind == "real":
        return ImageSet.open(str(case.train), size=_SIZE).sample_per_class(case.ipc, 0)
    folder, training = cache / case.name / f"{kind}-images", TrainingImages.open(str(case.train), size=_SIZE)
    recipe = replace(case.recover, mode="class" if kind == "class" else "cross")
    with cluster(None):
        synthesize(
            teacher,
            training,
            recipe,
            case.ipc,
            folder,
            cache / "statistics",
            progress=lambda phase, done, total: say(f"{case.name}, {kind}: {phase} {done} of {total}"),
        )
    return ImageSet.open(folder)


def measure(teacher: Teacher, images: ImageSet, test: ImageSet) -> dict[str, Any]:
    """How varied the images are, and whether the teacher takes them for their class."""
    return {
        "similarity": within_class_similarity(teacher, images, _CPU),
        "teacher_accuracy_on_them": accuracy(teacher, images),
        "teacher_accuracy": accuracy(teacher, test),
        "image_bytes": images.image_bytes,
        "num_images": images.num_images,
        "machine": cpu_name(),
        "versions": versions(),
    }


def first_labels(labels: Labels, divisor: int) -> Labels:
    """The first of so many parts of the labels: the first views of every image."""
    count = labels.spec.num_views // divisor
    return Labels(replace(labels.spec, num_views=count), labels.logits.take(slice(0, count)))


def student(case: Case, images: ImageSet, labels: Labels, test: ImageSet, seed: int) -> dict[str, Any]:
    """The test accuracy of a student after its last epoch."""
    recipe = Recipe(architecture="cifar_resnet20", epochs=case.epochs, lr=0.002, temperature="20:2:step")
    network = Student(recipe, images.num_classes, seed)
    for _ in train(network, ViewDataset(images, labels), recipe, seed=seed):
        pass
    return {"accuracy": accuracy(network, test), "num_views": labels.spec.num_views, "recipe": recipe.to_json()}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file has, made where it is not there."""
    if not path.exists():
        write_atomically(path, json.dumps(make(), indent=2).encode())
        say(f"{path.name}")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def table(cases: list[Case], out: Path) -> str:
    """What is there, in Markdown."""
    lines = [
        "| case | images | within-class similarity | teacher right on them, % | all labels, % | a fortieth, % | lost |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for case in cases:
        for kind in KINDS:
            path = out / f"{case.name}-{kind}.json"
            if not path.exists():
                continue
            facts = json.loads(path.read_bytes())
            found = {}
            for name in LABELS:
                files = sorted(out.glob(f"{case.name}-{kind}-{name.replace('/', '-')}-seed*.json"))
                found[name] = [100 * json.loads(file.read_bytes())["accuracy"] for file in files]
            means = {name: statistics.mean(values) for name, values in found.items() if values}
            lost = f"{means['all'] - means['1/40']:.1f}" if len(means) == len(LABELS) else ""
            cells = [spread(found[name]) for name in LABELS]
            lines.append(
                f"| {case.name} | {kind} | {facts['similarity']:.3f} | {100 * facts['teacher_accuracy_on_them']:.1f} | "
                + " | ".join([*cells, lost])
                + " |"
            )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f} (1 seed)" if values else ""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    main()
