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

from lpqld.ensemble import teacher_files
from lpqld.errors import ConfigError
from lpqld.evaluation import accuracy
from lpqld.fit import fit_teacher
from lpqld.images import ImageSet
from lpqld.store import canonical_json, fingerprint, write_atomically
from lpqld.teacher import Teacher, TeacherSpec, choose_device, save_teacher
from sweeps.cluster import cluster, num_gpus, use_assigned_resources

_STATE_SUFFIX = ".checkpoint"
Trajectory = Mapping[int, Sequence[Path]]
_EPOCH = re.compile(r"-epoch(\d+)$")


@dataclass(frozen=True)
class Fit:
    """How teachers are fitted; see `lpqld.fit.fit_teacher`.

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
    """The checkpoints beside a finished teacher, by epoch."""
    found = {epoch_of(file): file for file in path.parent.glob(f"{glob.escape(path.stem)}-epoch*{path.suffix}")}
    return {epoch: file for epoch, file in found.items() if epoch and file == checkpoint_path(path, epoch)}


def trajectory(source: str) -> Trajectory:
    """Checkpoints by epoch, one an expert, of the finished teachers that a pattern names.

    Raises:
        ConfigError: there are none, or their epochs differ.
    """
    experts = [path for path in teacher_files(source) if epoch_of(path) is None]
    by_expert = [checkpoints_of(path) for path in experts]
    if not experts or not by_expert[0] or any(found.keys() != by_expert[0].keys() for found in by_expert):
        epochs = "; ".join(f"{path.name} has {sorted(found)}" for path, found in zip(experts, by_expert, strict=True))
        raise ConfigError(
            f"no experts at {source}: expected teachers with checkpoints of the same epochs beside them, as"
            f" `lpqld teacher fit --keep-at log:8` writes them ({epochs or 'none found'})"
        )
    return {epoch: [found[epoch] for found in by_expert] for epoch in sorted(by_expert[0])}


def seed_path(path: Path, seed: int) -> Path:
    """Where the teacher of a seed lies, where there are several."""
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")


def fit_experts(
    images: ImageSet,
    test: ImageSet,
    path: Path,
    fit: Fit,
    seeds: Sequence[int],
    *,
    address: str | None = None,
    progress: Callable[[int, int], None],
) -> list[FittedTeacher]:
    """Fit a teacher for every seed and write it to `path`, or to `seed_path` where there are several.

    One that is there already, fitted alike to equal images, is kept; one that was interrupted goes on from where it
    was. Several are fitted at once, a CPU or a GPU each, on the cluster at `address` or one of their own (its nodes
    need to see `path`); one alone is fitted in this process unless an address is given.

    Args:
        images: fitted to.
        test: measured on, once, in the end.
        path: a safetensors file.
        fit: how.
        seeds: of the teachers.
        address: of a Ray cluster.
        progress: called with epochs done and in all where one is fitted here, else with teachers done and in all.
    """
    if len(seeds) == 1 and address is None:
        return [_fit(images, test, path.absolute(), fit, seeds[0], choose_device(), progress)]
    paths = [path if len(seeds) == 1 else seed_path(path, seed) for seed in seeds]
    with cluster(address):
        task = ray.remote(_fit_assigned).options(num_cpus=1, num_gpus=1 if num_gpus() else 0)
        shared = ray.put(images), ray.put(test)
        running = {
            task.remote(*shared, each.absolute(), fit, seed): place
            for place, (each, seed) in enumerate(zip(paths, seeds, strict=True))
        }
        found: dict[int, FittedTeacher] = {}
        while running:
            (done,), _ = ray.wait(list(running))
            found[running.pop(done)] = ray.get(done)
            progress(len(found), len(seeds))
    return [found[place] for place in range(len(seeds))]


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
    about = path.with_suffix(".json")
    identity = fingerprint(canonical_json([images.fingerprint, test.fingerprint, asdict(fit), seed]))
    if (known := _finished(about, identity)) is not None:
        return known

    def keep(epoch: int, model: nn.Module, spec: TeacherSpec) -> None:
        save_teacher(checkpoint_path(path, epoch), model, spec)

    model, spec = fit_teacher(
        images,
        architecture=fit.architecture,
        epochs=fit.epochs,
        seed=seed,
        lr=fit.lr,
        batch_size=fit.batch_size,
        device=device,
        keep_at=fit.keep_at,
        keep=keep,
        checkpoint=path.with_name(f".{path.stem}.{identity[:8]}{_STATE_SUFFIX}"),
        on_epoch=lambda epoch: progress(epoch.epoch, epoch.num_epochs),
    )
    save_teacher(path, model, spec)
    found = FittedTeacher(
        str(path),
        accuracy(Teacher(model, spec).to(device), test, device=device),
        tuple(str(checkpoint_path(path, epoch)) for epoch in fit.keep_at),
    )
    write_atomically(about, json.dumps({"identity": identity, **asdict(found)}).encode())
    for stale in path.parent.glob(f".{glob.escape(path.stem)}.*{_STATE_SUFFIX}"):
        stale.unlink()  # of a fit that was interrupted and never went on
    return found


def _finished(about: Path, identity: str) -> FittedTeacher | None:
    """The teacher of an earlier call like this one, where all of its files are still there."""
    try:
        document: dict[str, Any] = json.loads(about.read_bytes())
        if document.pop("identity") != identity:
            return None
        found = FittedTeacher(document["path"], document["accuracy"], tuple(document["checkpoints"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none, or another's: fitted anew
    return found if all(Path(file).is_file() for file in (found.path, *found.checkpoints)) else None
