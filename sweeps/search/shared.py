"""What the trials of a sweep share: master labels, of one teacher or of the experts of every epoch, and images."""

from __future__ import annotations

from pathlib import Path

import torch

from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.models import Teacher
from lpqld.progress import Progress
from sweeps.cluster import object_store_for
from sweeps.config import SweepConfig
from sweeps.jobs import Evaluation, Master, experts_by_epoch, make_master, open_images, trajectory
from sweeps.search.choice import Shared

SIZES_FOLDER = "sizes"


def masters_by_epoch(
    config: SweepConfig,
    images: ImageSet,
    root: Path,
    device: torch.device,
    progress: Progress,
) -> dict[int, Master]:
    """Master labels of the experts of every epoch, where trials choose it; the last epoch's are the sweep's own."""
    if not config.searches_epoch:
        return {}
    experts = experts_by_epoch(config.teacher, images.class_names)
    progress.say(f"experts of epochs {', '.join(map(str, experts))}: each labels all views")
    found = {}
    for epoch, teacher in experts.items():
        found[epoch] = make_master(config, teacher, images, root, device, progress, f"relabel, epoch {epoch}")
    return found


def shared_of(
    config: SweepConfig,
    images: ImageSet,
    evaluation: Evaluation,
    master: Master,
    by_epoch: dict[int, Master],
    teacher: Teacher | None,
    root: Path,
    device: torch.device,
) -> Shared:
    """What trials read; with random real images and their labels where the images of the sweep are distilled ones."""
    real = None
    if config.images.real is not None:
        real_images = open_images(config.images, source=config.images.real)
        real_master = make_master(config, teacher, real_images, root, device)
        real = real_images, real_master.read()

    labels = master.read()

    def labels_by(some: Master) -> Labels:
        # The last epoch's master is the sweep's own: read and held once.
        return labels if some.fingerprint == master.fingerprint else some.read()

    def sizes_of(some: Master) -> Path:
        return (root / config.name / SIZES_FOLDER / some.fingerprint[:16]).absolute()

    return Shared(
        images,
        labels,
        evaluation.validation,
        evaluation.test,
        config.student,
        real,
        sizes=sizes_of(master),
        by_epoch={epoch: (labels_by(some), sizes_of(some)) for epoch, some in by_epoch.items()},
    )


def object_store_bytes(config: SweepConfig, images: ImageSet, evaluation: Evaluation) -> int:
    """Room for what trials share, and twice the images: relabeling has its own."""
    sets, num_classes = 1 if config.images.real is None else 2, images.num_classes
    masters = sets + (len(trajectory(config.teacher.experts or "")) if config.searches_epoch else 0)
    num_labels = images.num_images * config.views_per_image
    label = 2 * num_classes if config.relabel.k is None else 6 * min(config.relabel.k, num_classes)
    held = evaluation.validation.held_bytes + evaluation.test.held_bytes + 2 * sets * images.held_bytes
    return object_store_for(held + masters * num_labels * label)
