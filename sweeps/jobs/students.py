"""`lpqld train`: students on a label set, each in a Ray task or in several processes; finished seeds are kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayActorError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lpqld.errors import ConfigError, LpqldError
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.models import MODEL_FILE, TeacherSpec, accuracy, save_model
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint, kept_json, write_atomically
from lpqld.training import ALONE, Compile, Ranks, Recipe, Student, ViewDataset, train
from sweeps.cluster import as_completed, num_cpus, num_gpus, result_of, use_assigned_resources


@dataclass(frozen=True)
class StudentAccuracy:
    """Of one student, as fractions; `validation` is None where there are no such images."""

    test: float
    validation: float | None = None


@dataclass(frozen=True)
class _Task:
    """What is the same for every seed."""

    images: ImageSet
    labels: Labels
    evaluation: ImageSet
    validation: ImageSet | None
    recipe: Recipe
    compile: Compile
    checkpoints: str
    save: Path | None

    def run(self, seed: int, ranks: Ranks = ALONE) -> StudentAccuracy:
        """Train the student of a seed on what Ray assigned to this process; its accuracy."""
        device = use_assigned_resources(cpus=1)
        student = Student(self.recipe, self.labels.spec.num_classes, seed)
        data = ViewDataset.of_recipe(self.images, self.labels, self.recipe, device, seed=seed)
        checkpoint = Path(f"{self.checkpoints}-seed{seed}.checkpoint")
        for _ in train(student, data, self.recipe, seed=seed, compile=self.compile, checkpoint=checkpoint, ranks=ranks):
            pass
        if self.save is not None and ranks.rank == 0:
            spec = TeacherSpec(
                self.recipe.architecture,
                self.images.num_classes,
                input_size=student.input_size or self.images.size,
                mean=self.recipe.mean,
                std=self.recipe.std,
                class_names=self.images.class_names,
            )
            save_model(self.save / f"seed-{seed}", student.network, spec)
        validation = None if self.validation is None else accuracy(student, self.validation)
        return StudentAccuracy(accuracy(student, self.evaluation), validation)


@ray.remote(max_retries=2)
def _train_seed(task: _Task, seed: int) -> StudentAccuracy:
    return task.run(seed)


@ray.remote
class _Rank:
    """One of the processes that train a student together."""

    def free_address(self) -> str:
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def train(self, task: _Task, seed: int, address: str, rank: int, size: int) -> StudentAccuracy:
        backend = "nccl" if ray.get_gpu_ids() else "gloo"
        dist.init_process_group(backend, init_method=address, rank=rank, world_size=size)
        try:
            return task.run(seed, Ranks(rank, size))
        finally:
            dist.destroy_process_group()


def train_students(
    images: ImageSet,
    labels: Labels,
    evaluation: ImageSet,
    recipe: Recipe,
    seeds: range,
    folder: Path,
    *,
    validation: ImageSet | None = None,
    workers: int = 1,
    compile: Compile = "auto",  # noqa: A002
    save: Path | None = None,
    progress: Progress,
) -> list[StudentAccuracy]:
    """Accuracies, one a seed, of students trained on the connected Ray cluster.

    A seed that has finished before, on equal labels, images and recipe, is read from `folder`; one that was interrupted
    goes on from its checkpoint there.

    Args:
        images: those of the labels.
        labels: decoded.
        evaluation: the test set.
        recipe: of every student.
        seeds: of the students.
        folder: of results and checkpoints.
        validation: images to choose by, beside the test set.
        workers: processes that train each student together, a CPU or a GPU each; 1 trains several students at once.
        compile: see `lpqld.training.train`.
        save: a folder for the students, `seed-1` and so on (`model_files.save_model`).
        progress: told of seeds done.

    Raises:
        ConfigError: the cluster is smaller than `workers`.
        LpqldError: a worker died again and again.
    """
    _check_workers(workers)
    sets = [images, evaluation] if validation is None else [images, evaluation, validation]
    identity = [labels.spec.fingerprint, *(each.fingerprint for each in sets), recipe.to_json()]
    path = folder.resolve() / f"{fingerprint(canonical_json(identity))[:16]}.json"
    results = _Results(path)
    task = ray.put(_Task(images, labels, evaluation, validation, recipe, compile, str(path.with_suffix("")), save))
    missing = [seed for seed in seeds if not (results.has(seed) and _is_saved(save, seed))]
    progress.progress("train", len(seeds) - len(missing), len(seeds))
    for seed, accuracies in _trained(task, missing, workers):
        results.add(seed, accuracies)
        progress.progress("train", sum(map(results.has, seeds)), len(seeds))
    return [results.of(seed) for seed in seeds]


def _check_workers(workers: int) -> None:
    gpus = num_gpus()
    available = gpus or num_cpus()
    if workers > available:
        raise ConfigError(
            f"--workers {workers}: this cluster has {available} {'GPUs' if gpus else 'CPUs'}; choose fewer"
        )


def _is_saved(save: Path | None, seed: int) -> bool:
    """Whether the student of a seed is where it is to be saved, if it is to be."""
    return save is None or (save / f"seed-{seed}" / MODEL_FILE).is_file()


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


def _trained(task: Any, seeds: list[int], workers: int) -> Iterator[tuple[int, StudentAccuracy]]:
    """Each seed and its student's accuracies, as they come: students one after another where several processes train
    each, else as many at once as the cluster has room for."""
    gpus = 1 if num_gpus() else 0
    if workers > 1:
        bundle = {"CPU": 1.0, "GPU": 1.0} if gpus else {"CPU": 1.0}
        for seed in seeds:
            yield seed, _train_together(task, seed, workers, bundle)
        return
    remote = _train_seed.options(num_cpus=1, num_gpus=gpus)
    seed_of = {remote.remote(task, seed): seed for seed in seeds}
    for reference, accuracies in as_completed(seed_of):
        yield seed_of[reference], accuracies


def _train_together(task: Any, seed: int, workers: int, bundle: dict[str, float], attempts: int = 3) -> StudentAccuracy:
    """Train one student in several processes, all of them started or none; again, from the checkpoint, if one dies."""
    group = placement_group([bundle] * workers)
    actor: Any = _Rank
    place: dict[str, Any] = {"num_cpus": 1, "num_gpus": bundle.get("GPU", 0)}
    place["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
    ranks = [actor.options(**place).remote() for _ in range(workers)]
    try:
        address = ray.get(ranks[0].free_address.remote())
        runs = [each.train.remote(task, seed, address, rank, workers) for rank, each in enumerate(ranks)]
        values: list[StudentAccuracy] = result_of(runs)
        return values[0]
    except RayActorError as error:
        if attempts == 1:
            raise LpqldError(f"a worker of seed {seed} died; run again to go on from where it was ({error})") from error
    finally:
        for each in ranks:
            ray.kill(each)
        remove_placement_group(group)
    return _train_together(task, seed, workers, bundle, attempts - 1)
