"""Students of a study, as many at once as the cluster has room for; those that were trained before are read."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.models import accuracy
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint, kept_json, write_atomically
from lpqld.training import Recipe, Student, ViewDataset, train
from sweeps.cluster import as_completed, num_cpus, num_gpus, use_assigned_resources
from sweeps.jobs import Evaluation
from sweeps.studies.cases import Case
from sweeps.studies.labels import CaseLabels

# More would hold their labels in memory, fewer would let workers wait for theirs.
_WAITING_FOR_EACH_WORKER = 1


@dataclass(frozen=True)
class StudyStudent:
    """One to be trained: of a case, a seed from 1, and labels of its own."""

    case: Case
    seed: int
    labels: CaseLabels


def train_cases(
    students: Iterable[StudyStudent],
    total: int,
    recipe: Recipe,
    evaluation: Evaluation,
    folder: Path,
    progress: Progress,
) -> dict[Case, list[dict[str, float]]]:
    """What students measure, of every case by seed: accuracies on test and validation images, of a removed class too.

    Studies have students in common: what one has trained, another finds in `folder`. Labels are asked for, one student
    after another, when there is room for them.

    Args:
        students: in any order.
        total: how many there are.
        recipe: theirs.
        evaluation: what they are measured on.
        folder: of what was trained before.
        progress: told of how many are done.
    """
    shared = ray.put(evaluation.test), ray.put(evaluation.validation)
    prints = [evaluation.test.fingerprint, evaluation.validation.fingerprint, recipe.to_json()]
    task = ray.remote(_student).options(num_cpus=1, num_gpus=1 if num_gpus() else 0, max_retries=2)
    at_once = (1 + _WAITING_FOR_EACH_WORKER) * (num_gpus() or num_cpus())
    images: dict[str, Any] = {}
    running: dict[Any, Path] = {}
    waiting: dict[Path, list[StudyStudent]] = {}
    values: dict[Case, dict[int, dict[str, float]]] = defaultdict(dict)

    def tell() -> None:
        progress.progress("students", sum(map(len, values.values())), total)

    def finish_one() -> None:
        done, found = next(as_completed(running))
        path = running.pop(done)
        write_atomically(path, json.dumps(found).encode())
        for student in waiting.pop(path):
            values[student.case][student.seed] = found
        tell()

    tell()
    for student in students:
        case, labels = student.case, student.labels
        weights = "none" if labels.weights is None else fingerprint(labels.weights.tobytes())
        identity = [labels.digest, labels.images.fingerprint, *prints, weights, case.removed]
        path = folder / fingerprint(canonical_json(identity))[:16] / f"seed-{student.seed}.json"
        if (known := _kept(path)) is not None:
            values[case][student.seed] = known
            tell()
            continue
        if path in waiting:  # two cases may come to the same labels, like the first rank and the top one
            waiting[path].append(student)
            continue
        if len(running) >= at_once:
            finish_one()
        seen = labels.images.fingerprint
        images[seen] = images.get(seen) or ray.put(labels.images)
        data = images[seen], ray.put(labels.decoded), ray.put(labels.weights)
        reference = task.remote(*data, *shared, recipe, student.seed, case.removed, path.with_suffix(".checkpoint"))
        running[reference], waiting[path] = path, [student]
    while running:
        finish_one()
    return {case: [found[seed] for seed in sorted(found)] for case, found in values.items()}


def _kept(path: Path) -> dict[str, float] | None:
    """What a student had; None where it is not there, or not whole: it is trained again."""
    try:
        found: dict[str, float] = kept_json(path) or {}
        return {**found, "accuracy": float(found["accuracy"]), "val_accuracy": float(found["val_accuracy"])}
    except (ValueError, KeyError, TypeError):
        return None


def _student(
    images: ImageSet,
    labels: Labels,
    weights: Any,
    test: ImageSet,
    validation: ImageSet,
    recipe: Recipe,
    seed: int,
    removed: int | None,
    checkpoint: Path,
) -> dict[str, float]:
    start = time.perf_counter()
    device = use_assigned_resources(cpus=1)
    network = Student(recipe, labels.spec.num_classes, seed)
    data = ViewDataset.of_recipe(images, labels, recipe, device, seed=seed, weights=weights)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    for _ in train(network, data, recipe, seed=seed, checkpoint=checkpoint):
        pass
    found = {"accuracy": accuracy(network, test), "val_accuracy": accuracy(network, validation)}
    if removed is not None:
        found["class_accuracy"] = accuracy(network, test.take(np.flatnonzero(test.labels.numpy() == removed)))
    return {**found, "seconds": time.perf_counter() - start}
