"""What a sweep begins with: its images, the images that students are measured on, its teacher."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from lpqld.byte_sizes import format_bytes
from lpqld.images import ImageSet
from lpqld.models import Teacher, accuracy, build
from sweeps.jobs import Evaluation, check_classes, fit_or_open_teacher, make_images, open_evaluation
from sweeps.search.job import SweepJob


@dataclass(frozen=True)
class Inputs:
    """Images and teacher; `about_teacher` is what reports say of it, and empty where there is none."""

    images: ImageSet
    evaluation: Evaluation
    teacher: Teacher | None
    about_teacher: dict[str, Any]


def open_inputs(job: SweepJob, address: str | None) -> Inputs:
    """Open what the configuration names; images are recovered, and a teacher is fitted, where it says so.

    Raises:
        ConfigError: the student's architecture is unknown.
        DataError: images or teacher are wrong.
    """
    teacher_for = functools.cache(functools.partial(_teacher_for, job))
    with job.clock.phase("images"):
        images = make_images(job.config, job.root, job.folder, teacher_for, address=address, progress=job.progress)
        evaluation = open_evaluation(job.config.eval, images)
        check_classes(images, evaluation)
        with torch.device("meta"):  # an unknown student is refused now, not by every trial
            build(job.config.student.architecture, images.num_classes)
        job.progress.say(
            f"images: {images.num_images} of {images.num_classes} classes, {images.size} px, "
            f"{format_bytes(images.image_bytes)}"
        )
    with job.clock.phase("teacher"):
        teacher = teacher_for(images.class_names) if job.config.has_teacher else None
        about_teacher = {} if teacher is None else _measured(teacher, evaluation.test, job)
    return Inputs(images, evaluation, teacher, about_teacher)


def _teacher_for(job: SweepJob, class_names: tuple[str, ...]) -> Teacher:
    """The sweep's teacher of some classes."""
    return fit_or_open_teacher(job.config, class_names, job.folder, job.device, job.progress)


def _measured(teacher: Teacher, test: ImageSet, job: SweepJob) -> dict[str, Any]:
    """What reports say of a teacher, with its accuracy on the test set."""
    test_accuracy = accuracy(teacher.to(job.device), test, device=job.device)
    job.progress.say(f"teacher: {teacher.spec.architecture}, test accuracy {test_accuracy:.2%}")
    return {"accuracy": test_accuracy, **teacher.spec.to_json(), "fingerprint": teacher.fingerprint}
