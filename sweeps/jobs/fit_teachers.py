"""Teachers fitted here, of several seeds at once, with checkpoints along the way: experts."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from torch import nn

from lpqld.images import ImageSet
from lpqld.models import TeacherSpec, accuracy, choose_device, fit_teacher, load_teacher, save_teacher
from lpqld.progress import SILENT, Progress
from lpqld.storage import canonical_json, fingerprint, write_atomically
from sweeps.cluster import as_completed, cluster, num_gpus, use_assigned_resources
from sweeps.jobs.expert_files import about_path, checkpoint_path, checkpoints_of, read_about

_STATE_SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class TeacherFit:
    """How teachers are fitted; see `lpqld.models.fit.fit_teacher`.

    Attributes:
        keep_at: epochs after which a checkpoint is kept.
    """

    architecture: str
    epochs: int
    lr: float
    batch_size: int
    keep_at: tuple[int, ...] = ()


@dataclass(frozen=True)
class FittedTeacher:
    """Where a fitted teacher is, its test accuracy (a fraction), and the checkpoints kept along the way."""

    path: str
    accuracy: float
    checkpoints: tuple[str, ...]


def seed_path(path: Path, seed: int) -> Path:
    """Where the teacher of a seed lies, where there are several."""
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")


def fit_experts(
    images: ImageSet,
    test: ImageSet,
    paths: Mapping[int, Path],
    fit: TeacherFit,
    *,
    address: str | None = None,
    progress: Progress = SILENT,
    phase: str = "fit",
) -> list[FittedTeacher]:
    """Fit a teacher for every seed of `paths` and write it there, and its checkpoints beside it, instead of others.

    One that is there already, fitted alike to equal images, is kept; one that was interrupted goes on from where it
    was. Several are fitted at once, a CPU or a GPU each, on the cluster at `address` or one of their own (its nodes
    need to see them); one alone is fitted in this process unless an address is given.

    Args:
        images: fitted to.
        test: measured on, once, in the end.
        paths: safetensors files, by seed.
        fit: how.
        address: of a Ray cluster.
        progress: told of epochs where one is fitted here, else of teachers.
        phase: what `progress` calls them.
    """
    if len(paths) == 1 and address is None:
        ((seed, path),) = paths.items()
        return [_Expert(path.absolute(), fit, seed, choose_device()).fitted(images, test, progress, phase)]
    with cluster(address):
        task = ray.remote(_fit_assigned).options(num_cpus=1, num_gpus=1 if num_gpus() else 0)
        shared = ray.put(images), ray.put(test)
        seeds = {task.remote(*shared, path.absolute(), fit, seed): seed for seed, path in paths.items()}
        fitted: dict[int, FittedTeacher] = {}
        for reference, teacher in as_completed(seeds):
            fitted[seeds[reference]] = teacher
            progress.progress(phase, len(fitted), len(paths))
    return [fitted[seed] for seed in paths]


def _fit_assigned(images: ImageSet, test: ImageSet, path: Path, fit: TeacherFit, seed: int) -> FittedTeacher:
    return _Expert(path, fit, seed, use_assigned_resources(cpus=1)).fitted(images, test)


@dataclass(frozen=True)
class _Expert:
    """One teacher to be fitted on a device."""

    path: Path
    fit: TeacherFit
    seed: int
    device: torch.device

    def fitted(
        self, images: ImageSet, test: ImageSet, progress: Progress = SILENT, phase: str = "fit"
    ) -> FittedTeacher:
        """The teacher as it is there already, or fitted now; measured unless it was, on the same images."""
        identity = fingerprint(canonical_json([images.fingerprint, asdict(self.fit), self.seed]))
        checkpoints = [checkpoint_path(self.path, epoch) for epoch in self.fit.keep_at]
        about = read_about(self.path) or {}
        is_finished = about.get("identity") == identity and "checkpoints" in about
        if not (is_finished and all(file.is_file() for file in (self.path, *checkpoints))):
            self._fit(images, identity, progress, phase)
            for stale in set(checkpoints_of(self.path).values()) - set(checkpoints):
                stale.unlink()  # of another fit
        elif about.get("test") == test.fingerprint:
            return FittedTeacher(str(self.path), about["accuracy"], tuple(map(str, checkpoints)))
        teacher = load_teacher(self.path, image_class_names=images.class_names).to(self.device)
        measured = FittedTeacher(
            str(self.path), accuracy(teacher, test, device=self.device), tuple(map(str, checkpoints))
        )
        self._write_about({"identity": identity, "test": test.fingerprint, **asdict(measured)})
        return measured

    def _fit(self, images: ImageSet, identity: str, progress: Progress, phase: str) -> None:
        def begin() -> None:
            """From here on, what lies there is of no finished fit."""
            self._write_about({"identity": identity})

        def keep(epoch: int, model: nn.Module, spec: TeacherSpec) -> None:
            begin()
            save_teacher(checkpoint_path(self.path, epoch), model, spec)

        model, spec = fit_teacher(
            images,
            architecture=self.fit.architecture,
            epochs=self.fit.epochs,
            seed=self.seed,
            lr=self.fit.lr,
            batch_size=self.fit.batch_size,
            device=self.device,
            keep_at=self.fit.keep_at,
            keep=keep,
            checkpoint=self.path.with_name(f".{self.path.stem}.{identity[:8]}{_STATE_SUFFIX}"),
            on_epoch=lambda epoch: progress.progress(phase, epoch.epoch, epoch.num_epochs),
        )
        begin()
        save_teacher(self.path, model, spec)
        for stale in self.path.parent.glob(f".{glob.escape(self.path.stem)}.*{_STATE_SUFFIX}"):
            stale.unlink()  # of a fit that was interrupted and never went on

    def _write_about(self, document: dict[str, Any]) -> None:
        write_atomically(about_path(self.path), json.dumps(document).encode())
