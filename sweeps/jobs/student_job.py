"""What `lpqld train` trains: students of several seeds on one label set, whose finished accuracies are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lpqld._malloc import keep_freed_memory
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.models import MODEL_FILE, TeacherSpec, accuracy, choose_device, save_model
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint, kept_json, write_atomically
from lpqld.training import ALONE, Compile, Ranks, Recipe, Student, ViewDataset, train


@dataclass(frozen=True)
class StudentAccuracy:
    """Of one student, as fractions; `validation` is None where there are no such images."""

    test: float
    validation: float | None = None


# Trains the students of some seeds, whose checkpoints lie in a folder, and gives each as it is done.
TrainSeeds = Callable[[Path, list[int]], Iterable[tuple[int, StudentAccuracy]]]


@dataclass(frozen=True)
class StudentJob:
    """What is the same for every seed.

    Attributes:
        images: those of the labels.
        labels: decoded.
        evaluation: the test set.
        recipe: of every student.
        validation: images to choose by, beside the test set.
        compile: see `lpqld.training.train`.
        save: a folder for the students, `seed-1` and so on, as `lpqld.models.save_model` writes them.
    """

    images: ImageSet
    labels: Labels
    evaluation: ImageSet
    recipe: Recipe
    validation: ImageSet | None = None
    compile: Compile = "auto"
    save: Path | None = None

    def run(self, seed: int, checkpoint: Path, device: torch.device, ranks: Ranks = ALONE) -> StudentAccuracy:
        """Train the student of a seed on a device, from its checkpoint where there is one; its accuracy."""
        student = Student(self.recipe, self.labels.spec.num_classes, seed)
        data = ViewDataset.of_recipe(self.images, self.labels, self.recipe, device, seed=seed)
        for _ in train(student, data, self.recipe, seed=seed, compile=self.compile, checkpoint=checkpoint, ranks=ranks):
            pass
        if self.save is not None and ranks.rank == 0:
            save_model(self.save / f"seed-{seed}", student.network, self._spec(student))
        validation = None if self.validation is None else accuracy(student, self.validation)
        return StudentAccuracy(accuracy(student, self.evaluation), validation)

    def trained(self, seeds: range, folder: Path, train_seeds: TrainSeeds, progress: Progress) -> list[StudentAccuracy]:
        """Accuracies, one per seed.

        A seed that has finished before, on equal labels, images and recipe, is read from `folder`; one that was
        interrupted goes on from its checkpoint there.

        Args:
            seeds: of the students.
            folder: of results and checkpoints.
            train_seeds: trains the students that are missing.
            progress: told of seeds done.
        """
        path = folder.resolve() / f"{self._identity[:16]}.json"
        results = _Results(path)
        missing = [seed for seed in seeds if not (results.has(seed) and self._is_saved(seed))]
        progress.progress("train", len(seeds) - len(missing), len(seeds))
        for seed, accuracies in train_seeds(path.with_suffix(""), missing):
            results.add(seed, accuracies)
            progress.progress("train", sum(map(results.has, seeds)), len(seeds))
        return [results.of(seed) for seed in seeds]

    @property
    def _identity(self) -> str:
        """Of what decides an accuracy, but for the seed."""
        sets = (self.images, self.evaluation, self.validation)
        prints = [each.fingerprint for each in sets if each is not None]
        return fingerprint(canonical_json([self.labels.spec.fingerprint, *prints, self.recipe.to_json()]))

    def _is_saved(self, seed: int) -> bool:
        """Whether the student of a seed is where it is to be saved, if it is to be."""
        return self.save is None or (self.save / f"seed-{seed}" / MODEL_FILE).is_file()

    def _spec(self, student: Student) -> TeacherSpec:
        """What another run needs to know of a student that is saved."""
        return TeacherSpec(
            self.recipe.architecture,
            self.images.num_classes,
            input_size=student.input_size or self.images.size,
            mean=self.recipe.mean,
            std=self.recipe.std,
            class_names=self.images.class_names,
        )


def train_students_here(job: StudentJob, seeds: range, folder: Path, progress: Progress) -> list[StudentAccuracy]:
    """Train students one after another in this process: the same as on Ray, for whom it is not installed.

    Arguments and results are those of `StudentJob.trained`. On a CPU one thread computes, as in a Ray task: sums in
    another number of threads round otherwise.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    device = choose_device()

    def train_seeds(checkpoints: Path, missing: list[int]) -> Iterable[tuple[int, StudentAccuracy]]:
        return ((seed, job.run(seed, checkpoint_of(checkpoints, seed), device)) for seed in missing)

    return job.trained(seeds, folder, train_seeds, progress)


def checkpoint_of(checkpoints: Path, seed: int) -> Path:
    """Where the state of an unfinished student lies."""
    return Path(f"{checkpoints}-seed{seed}.checkpoint")


class _Results:
    """Accuracies by seed, in a file that is written again with each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_name = {name: StudentAccuracy(**values) for name, values in (kept_json(path) or {}).items()}

    def has(self, seed: int) -> bool:
        return str(seed) in self._by_name

    def of(self, seed: int) -> StudentAccuracy:
        return self._by_name[str(seed)]

    def add(self, seed: int, accuracies: StudentAccuracy) -> None:
        self._by_name[str(seed)] = accuracies
        document = {name: asdict(each) for name, each in self._by_name.items()}
        write_atomically(self._path, json.dumps(document).encode())
