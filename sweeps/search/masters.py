"""Master labels of a sweep, of one teacher or of the experts of every epoch, put where all its trials read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from lpqld.byte_sizes import format_bytes
from lpqld.images import ImageSet
from sweeps.cluster import object_store_for
from sweeps.config import SweepConfig
from sweeps.jobs import Master, experts_by_epoch, make_master, open_images, trajectory
from sweeps.search.inputs import Inputs
from sweeps.search.job import SweepJob
from sweeps.search.shared import MasterLabels, RealImages, Shared, SharedRef, all_label_bytes

SIZES_FOLDER = "sizes"


@dataclass(frozen=True)
class SharedData:
    """What trials read, and what reports say of it.

    Attributes:
        reference: to it, in Ray's object store.
        shared: the same, as this process reads it there.
        about_teacher: for reports.
        all_label_bytes: of every view's logits, all classes, fp16.
    """

    reference: SharedRef
    shared: Shared
    about_teacher: dict[str, Any]
    all_label_bytes: int


def share_masters(job: SweepJob, inputs: Inputs) -> SharedData:
    """Label all views, unless that was done before, and put what trials read into Ray's object store: a copy a node."""
    with job.clock.phase("relabel"):
        master = make_master(job.config, inputs.teacher, inputs.images, job.root, job.device, job.progress)
        by_epoch = _masters_by_epoch(job, inputs.images)
        images = master.label_set.images_of(inputs.images)
        label_set = master.label_set
        size, views = format_bytes(label_set.num_bytes["total"]), label_set.spec.num_views
        job.progress.say(f"labels: {master.spec.num_views} of {views} views, {size}, {label_set.folder}")
        reference = ray.put(_shared(job, inputs, images, master, by_epoch).prepared())
        shared: Shared = ray.get(reference)
    about_teacher = inputs.about_teacher or {"accuracy": None, **master.spec.teacher.to_json()}
    return SharedData(reference, shared, about_teacher, all_label_bytes(shared.master.labels))


def object_store_bytes(config: SweepConfig, inputs: Inputs) -> int:
    """Room for what trials share, and twice the images: relabeling has its own."""
    images, evaluation = inputs.images, inputs.evaluation
    sets, num_classes = 1 if config.images.real is None else 2, images.num_classes
    masters = sets + (len(trajectory(config.teacher.experts or "")) if config.searches_epoch else 0)
    num_labels = images.num_images * config.views_per_image
    label = 2 * num_classes if config.relabel.k is None else 6 * min(config.relabel.k, num_classes)
    held = evaluation.validation.held_bytes + evaluation.test.held_bytes + 2 * sets * images.held_bytes
    return object_store_for(held + masters * num_labels * label)


def _masters_by_epoch(job: SweepJob, images: ImageSet) -> dict[int, Master]:
    """Master labels of the experts of every epoch, where trials choose it; the last epoch's are the sweep's own."""
    if not job.config.searches_epoch:
        return {}
    experts = experts_by_epoch(job.config.teacher, images.class_names)
    job.progress.say(f"experts of epochs {', '.join(map(str, experts))}: each labels all views")
    masters = {}
    for epoch, teacher in experts.items():
        phase = f"relabel, epoch {epoch}"
        masters[epoch] = make_master(job.config, teacher, images, job.root, job.device, job.progress, phase)
    return masters


def _shared(job: SweepJob, inputs: Inputs, images: ImageSet, master: Master, by_epoch: dict[int, Master]) -> Shared:
    """What trials read; with random real images and their labels where the images of the sweep are distilled ones."""
    real = _real_images(job, inputs)
    labels = master.read()

    def in_memory(some: Master) -> MasterLabels:
        # The last epoch's master is the sweep's own: read and held once.
        same = some.fingerprint == master.fingerprint
        return MasterLabels(labels if same else some.read(), _sizes_folder(job, some))

    return Shared(
        images=images,
        master=in_memory(master),
        validation=inputs.evaluation.validation,
        test=inputs.evaluation.test,
        recipe=job.config.student,
        real=real,
        by_epoch={epoch: in_memory(some) for epoch, some in by_epoch.items()},
    )


def _real_images(job: SweepJob, inputs: Inputs) -> RealImages | None:
    """As many random real images, labelled as the sweep's own are."""
    if job.config.images.real is None:
        return None
    images = open_images(job.config.images, source=job.config.images.real)
    master = make_master(job.config, inputs.teacher, images, job.root, job.device)
    return RealImages(images, master.read())


def _sizes_folder(job: SweepJob, master: Master) -> Path:
    return (job.folder / SIZES_FOLDER / master.fingerprint[:16]).absolute()
