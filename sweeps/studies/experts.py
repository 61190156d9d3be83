"""The experts of a study: teachers as they were after some epochs, given or fitted once for all studies of a root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from lpqld.images import ImageSet
from lpqld.models import epochs_to_keep
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint
from sweeps.config import ExpertsConfig, StudyConfig
from sweeps.jobs import Evaluation, TeacherFit, Trajectory, fit_experts, seed_path, trajectory

_T = TypeVar("_T")


def planned_experts(wanted: ExpertsConfig) -> tuple[tuple[int, ...], int]:
    """The epochs whose checkpoints there are, or will be, and of how many experts.

    Raises:
        ConfigError: those that are given are not there.
    """
    if wanted.source is None:
        return epochs_to_keep(wanted.keep, wanted.epochs), wanted.seeds
    given = trajectory(wanted.source)
    return tuple(given), len(next(iter(given.values())))


def experts_of(
    config: StudyConfig, class_names: tuple[str, ...], evaluation: Evaluation, folder: Path, progress: Progress
) -> Trajectory:
    """The experts that are given, or fitted here once for all studies."""
    wanted = config.experts
    if wanted.source is not None:
        return trajectory(wanted.source)
    images = ImageSet.open(wanted.images or config.images, size=config.size, class_names=class_names)
    kept = epochs_to_keep(wanted.keep, wanted.epochs)
    fit = TeacherFit(wanted.architecture, wanted.epochs, wanted.lr, wanted.batch_size, kept)
    digest = fingerprint(canonical_json([asdict(fit), images.fingerprint]))[:12]
    path = folder / "experts" / f"{wanted.architecture}-{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = {seed: seed_path(path, seed) for seed in range(config.seed, config.seed + wanted.seeds)}
    fit_experts(images, evaluation.validation, paths, fit, progress=progress, phase="experts")
    return trajectory(list(paths.values()))


def in_turn(experts: Sequence[_T], members: int, turn: int) -> list[_T]:
    """So many experts from the one whose turn it is."""
    return [experts[(turn + member) % len(experts)] for member in range(members)]
