"""Teachers fitted here, of several seeds at once, with checkpoints along the way: experts."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from torch import nn

from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.models import (
    FitRecipe,
    TeacherSpec,
    accuracy,
    choose_device,
    fit_teacher,
    load_teacher,
    save_teacher,
    teacher_files,
)
from lpqld.storage import canonical_json, fingerprint, kept_json, write_atomically
from sweeps.cluster import cluster, num_gpus, result_of, use_assigned_resources

_STATE_SUFFIX, _ABOUT_SUFFIX = ".checkpoint", ".json"
Trajectory = Mapping[int, Sequence[Path]]
_EPOCH = re.compile(r"-epoch(\d+)$")


@dataclass(frozen=True)
class Fit:
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


def checkpoint_path(path: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies, beside the teacher."""
    return path.with_name(f"{path.stem}-epoch{epoch}{path.suffix}")


def epoch_of(path: Path) -> int | None:
    """The epoch in a checkpoint's name; None of a finished teacher."""
    match = _EPOCH.search(path.stem)
    return None if match is None else int(match[1])


def checkpoints_of(path: Path) -> dict[int, Path]:
    """The checkpoints beside a teacher, by epoch."""
    found = {epoch_of(file): file for file in path.parent.glob(f"{glob.escape(path.stem)}-epoch*{path.suffix}")}
    return {epoch: file for epoch, file in found.items() if epoch and file == checkpoint_path(path, epoch)}


def trajectory(source: str | Sequence[Path]) -> Trajectory:
    """Checkpoints by epoch, one an expert, of finished teachers: those given, or those that a pattern names.

    Raises:
        ConfigError: there are none, their epochs differ, or one was interrupted.
    """
    files = teacher_files(source) if isinstance(source, str) else source
    experts = [path for path in files if epoch_of(path) is None]
    for path in experts:
        about = _read(path.with_suffix(_ABOUT_SUFFIX))
        if about is not None and "checkpoints" not in about:
            # Some of its checkpoints may be of the fit before.
            raise ConfigError(f"{path}: its fit was interrupted; the same command goes on from where it was")
    by_expert = [checkpoints_of(path) for path in experts]
    if not experts or not by_expert[0] or any(found.keys() != by_expert[0].keys() for found in by_expert):
        epochs = "; ".join(f"{path.name} has {sorted(found)}" for path, found in zip(experts, by_expert, strict=True))
        named = source if isinstance(source, str) else ", ".join(map(str, source))
        raise ConfigError(
            f"no experts at {named}: expected teachers with checkpoints of the same epochs beside them, as"
            f" `lpqld teacher fit --keep-at log:8` writes them ({epochs or 'none found'})"
        )
    return {epoch: [found[epoch] for found in by_expert] for epoch in sorted(by_expert[0])}


def seed_path(path: Path, seed: int) -> Path:
    """Where the teacher of a seed lies, where there are several."""
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")


def fit_experts(
    images: ImageSet,
    test: ImageSet,
    paths: Mapping[int, Path],
    fit: Fit,
    *,
    address: str | None = None,
    progress: Callable[[int, int], None],
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
        progress: called with epochs done and in all where one is fitted here, else with teachers done and in all.
    """
    if len(paths) == 1 and address is None:
        ((seed, path),) = paths.items()
        return [_fit(images, test, path.absolute(), fit, seed, choose_device(), progress)]
    with cluster(address):
        task = ray.remote(_fit_assigned).options(num_cpus=1, num_gpus=1 if num_gpus() else 0)
        shared = ray.put(images), ray.put(test)
        running = {task.remote(*shared, path.absolute(), fit, seed): seed for seed, path in paths.items()}
        found: dict[int, FittedTeacher] = {}
        while running:
            (done,), _ = ray.wait(list(running))
            found[running.pop(done)] = result_of(done)
            progress(len(found), len(paths))
    return [found[seed] for seed in paths]


def _fit_assigned(images: ImageSet, test: ImageSet, path: Path, fit: Fit, seed: int) -> FittedTeacher:
    return _fit(images, test, path, fit, seed, use_assigned_resources(cpus=1), lambda done, total: None)


def _fit(
    images: ImageSet,
    test: ImageSet,
    path: Path,
    fit: Fit,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> FittedTeacher:
    about = path.with_suffix(_ABOUT_SUFFIX)
    identity = fingerprint(canonical_json([images.fingerprint, asdict(fit), seed]))
    checkpoints = [checkpoint_path(path, epoch) for epoch in fit.keep_at]
    known = _read(about) or {}
    finished = known.get("identity") == identity and "checkpoints" in known
    if not (finished and all(file.is_file() for file in (path, *checkpoints))):
        _fit_anew(images, path, fit, seed, device, progress, identity)
        for stale in set(checkpoints_of(path).values()) - set(checkpoints):
            stale.unlink()  # of another fit
    elif known.get("test") == test.fingerprint:
        return FittedTeacher(str(path), known["accuracy"], tuple(map(str, checkpoints)))
    teacher = load_teacher(path, image_class_names=images.class_names).to(device)
    found = FittedTeacher(str(path), accuracy(teacher, test, device=device), tuple(map(str, checkpoints)))
    told = {"identity": identity, "test": test.fingerprint, **asdict(found)}
    write_atomically(about, json.dumps(told).encode())
    return found


def _fit_anew(
    images: ImageSet,
    path: Path,
    fit: Fit,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
    identity: str,
) -> None:
    def begin() -> None:
        """From here on, what lies there is of no finished fit."""
        write_atomically(path.with_suffix(_ABOUT_SUFFIX), json.dumps({"identity": identity}).encode())

    def keep(epoch: int, model: nn.Module, spec: TeacherSpec) -> None:
        begin()
        save_teacher(checkpoint_path(path, epoch), model, spec)

    model, spec = fit_teacher(
        images,
        FitRecipe(fit.architecture, fit.epochs, batch_size=fit.batch_size, lr=fit.lr),
        seed=seed,
        device=device,
        keep_at=fit.keep_at,
        keep=keep,
        checkpoint=path.with_name(f".{path.stem}.{identity[:8]}{_STATE_SUFFIX}"),
        on_epoch=lambda epoch: progress(epoch.epoch, epoch.num_epochs),
    )
    begin()
    save_teacher(path, model, spec)
    for stale in path.parent.glob(f".{glob.escape(path.stem)}.*{_STATE_SUFFIX}"):
        stale.unlink()  # of a fit that was interrupted and never went on


def _read(about: Path) -> dict[str, Any] | None:
    """What a fit has written of itself; None where there is none, or something else of that name."""
    document = kept_json(about)
    return document if document is not None and "identity" in document else None
