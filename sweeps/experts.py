"""Teachers fitted here, with checkpoints along the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from torch import nn

from lpqld.evaluation import accuracy
from lpqld.fit import fit_teacher
from lpqld.images import ImageSet
from lpqld.teacher import Teacher, TeacherSpec, choose_device, save_teacher
from sweeps.cluster import cluster, num_gpus


@dataclass(frozen=True)
class FittedTeacher:
    """Where a fitted teacher is, its test accuracy (a fraction), and the checkpoints kept along the way."""

    path: str
    accuracy: float
    checkpoints: tuple[str, ...]


def fit_and_save(
    images: ImageSet,
    test: ImageSet,
    path: Path,
    *,
    architecture: str,
    epochs: int,
    seed: int,
    lr: float,
    batch_size: int,
    keep_every: int | None,
    address: str | None,
    progress: Callable[[int, int], None],
) -> FittedTeacher:
    """Fit a teacher and write it to `path`; checkpoints go beside it as NAME-epochN.safetensors.

    Runs in this process, or as one task of the Ray cluster at `address` (its nodes then need to see `path`).
    """

    def run(report: Callable[[int, int], None]) -> FittedTeacher:
        kept: list[str] = []

        def keep(epoch: int, model: nn.Module, spec: TeacherSpec) -> None:
            checkpoint = path.with_name(f"{path.stem}-epoch{epoch}{path.suffix}")
            save_teacher(checkpoint, model, spec)
            kept.append(str(checkpoint))

        device = choose_device()
        model, spec = fit_teacher(
            images,
            architecture=architecture,
            epochs=epochs,
            seed=seed,
            lr=lr,
            batch_size=batch_size,
            device=device,
            keep_every=keep_every,
            keep=keep,
            on_epoch=lambda epoch: report(epoch.epoch, epoch.num_epochs),
        )
        save_teacher(path, model, spec)
        return FittedTeacher(str(path), accuracy(Teacher(model, spec).to(device), test, device=device), tuple(kept))

    if address is None:
        return run(progress)
    with cluster(address):
        task = ray.remote(run).options(num_gpus=1 if num_gpus() else 0)
        found: FittedTeacher = ray.get(task.remote(lambda done, total: None))
        return found
