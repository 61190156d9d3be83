"""`lpqld train`: students on a label set, one seed a Ray task; finished seeds are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ray

from lpqld.dataset import ViewDataset
from lpqld.evaluation import accuracy
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.recipe import Recipe
from lpqld.store import canonical_json, fingerprint, write_atomically
from lpqld.student import Student
from lpqld.training import train
from sweeps.cluster import num_gpus, use_assigned_resources


@ray.remote(max_retries=2)
def _train_seed(images: ImageSet, labels: Labels, evaluation: ImageSet, recipe: Recipe, seed: int) -> float:
    device = use_assigned_resources(cpus=1)
    student = Student(recipe, labels.spec.num_classes, seed)
    for _ in train(student, ViewDataset(images, labels, device), recipe, seed=seed):
        pass
    return accuracy(student, evaluation)


def train_students(
    images: ImageSet,
    labels: Labels,
    evaluation: ImageSet,
    recipe: Recipe,
    seeds: range,
    folder: Path,
    *,
    progress: Callable[[int, int], None],
) -> list[float]:
    """Test accuracies (fractions), one a seed, of students trained on the connected Ray cluster.

    A seed that has finished before, on equal labels, images and recipe, is read from `folder`.
    """
    identity = [labels.spec.fingerprint, images.fingerprint, evaluation.fingerprint, recipe.to_json()]
    path = folder / f"{fingerprint(canonical_json(identity))[:16]}.json"
    kept: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    progress(len([seed for seed in seeds if str(seed) in kept]), len(seeds))
    data = [ray.put(value) for value in (images, labels, evaluation, recipe)]
    remote = _train_seed.options(num_cpus=1, num_gpus=1 if num_gpus() else 0)
    seed_of = {remote.remote(*data, seed): seed for seed in seeds if str(seed) not in kept}
    pending = list(seed_of)
    while pending:
        ready, pending = ray.wait(pending)
        for reference in ready:
            kept[str(seed_of[reference])] = ray.get(reference)
        write_atomically(path, json.dumps(kept).encode())
        progress(len([seed for seed in seeds if str(seed) in kept]), len(seeds))
    return [kept[str(seed)] for seed in seeds]
