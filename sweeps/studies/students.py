"""Students of a study, as many at once as the cluster has room for; those that were trained before are read."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
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
from sweeps.studies.case import Case
from sweeps.studies.case_labels import CaseLabels

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
    training = _Training(recipe, evaluation, folder, lambda done: progress.progress("students", done, total))
    training.tell()
    for student in students:
        training.add(student)
    while training.running:
        training.finish_one()
    return {case: [by_seed[seed] for seed in sorted(by_seed)] for case, by_seed in training.measured.items()}


class _Training:
    """Students that are trained on the cluster, and what those that are finished measure.

    Attributes:
        measured: of every case and seed that is finished.
        running: the file of each student that is being trained, by Ray's reference.
    """

    def __init__(self, recipe: Recipe, evaluation: Evaluation, folder: Path, progress: Callable[[int], None]) -> None:
        self.measured: dict[Case, dict[int, dict[str, float]]] = defaultdict(dict)
        self.running: dict[Any, Path] = {}
        self._recipe, self._folder, self._progress = recipe, folder, progress
        self._evaluation = ray.put(evaluation.test), ray.put(evaluation.validation)
        self._prints = [evaluation.test.fingerprint, evaluation.validation.fingerprint, recipe.to_json()]
        self._task = ray.remote(_student).options(num_cpus=1, num_gpus=1 if num_gpus() else 0, max_retries=2)
        self._at_once = (1 + _WAITING_FOR_EACH_WORKER) * (num_gpus() or num_cpus())
        self._images: dict[str, Any] = {}
        self._waiting: dict[Path, list[StudyStudent]] = {}

    def add(self, student: StudyStudent) -> None:
        """Trains a student as soon as there is room, unless its file is there or it is being trained already."""
        path = self._path(student)
        known = _kept(path)
        if known is not None:
            self.measured[student.case][student.seed] = known
            self.tell()
        elif path in self._waiting:  # two cases may come to the same labels, like the first rank and the top one
            self._waiting[path].append(student)
        else:
            if len(self.running) >= self._at_once:
                self.finish_one()
            self.running[self._start(student, path)] = path
            self._waiting[path] = [student]

    def finish_one(self) -> None:
        """Waits for a student, and keeps what it measures."""
        done, measured = next(as_completed(self.running))
        path = self.running.pop(done)
        write_atomically(path, json.dumps(measured).encode())
        for student in self._waiting.pop(path):
            self.measured[student.case][student.seed] = measured
        self.tell()

    def tell(self) -> None:
        """Reports how many are finished."""
        self._progress(sum(map(len, self.measured.values())))

    def _path(self, student: StudyStudent) -> Path:
        """Where a student's accuracies are kept: the name says all that they depend on."""
        labels = student.labels
        weights = "none" if labels.weights is None else fingerprint(labels.weights.tobytes())
        measured_class = student.case.edit.measured_class
        identity = [labels.digest, labels.images.fingerprint, *self._prints, weights, measured_class]
        return self._folder / fingerprint(canonical_json(identity))[:16] / f"seed-{student.seed}.json"

    def _start(self, student: StudyStudent, path: Path) -> Any:
        labels = student.labels
        shown = labels.images.fingerprint
        if shown not in self._images:  # the same for all cases of a seed
            self._images[shown] = ray.put(labels.images)
        data = self._images[shown], ray.put(labels.decoded), ray.put(labels.weights)
        measured_class, checkpoint = student.case.edit.measured_class, path.with_suffix(".checkpoint")
        return self._task.remote(*data, *self._evaluation, self._recipe, student.seed, measured_class, checkpoint)


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
    measured_class: int | None,
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
    if measured_class is not None:
        found["class_accuracy"] = accuracy(network, test.take(np.flatnonzero(test.labels.numpy() == measured_class)))
    return {**found, "seconds": time.perf_counter() - start}
