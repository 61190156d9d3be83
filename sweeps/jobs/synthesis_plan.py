"""What squeeze and recover would store and take, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from lpqld.distill import Batch, ClassStatistics, Recoverer, batches_of
from lpqld.models import Teacher, TeacherSpec, build
from sweeps.config import SweepConfig
from sweeps.jobs.timing import seconds_per_call

_ID_AND_COUNT_BYTES = 16
_MOST_IMAGES = 16
_ITERATIONS = 3  # of a measured call
_VALUE_BYTES = 4  # of a mean, and of a variance


@dataclass(frozen=True)
class SynthesisPlan:
    """Of images that a sweep distils first; times in hours of one device.

    Attributes:
        num_training_images: that the teacher sees once; None where the configuration names none.
        statistics_bytes: of all classes on disk; 0 in cross-class mode, which takes the running ones.
        num_batches: tasks, each of which a worker does alone.
        batch_size: images of the largest.
        iterations: of each.
        image_rate: images per second and iteration, forward and backward.
        squeeze_hours: None where the training images are not known; none in cross-class mode.
        recover_hours: of all batches.
    """

    num_training_images: int | None
    statistics_bytes: int
    num_batches: int
    batch_size: int
    iterations: int
    image_rate: float
    squeeze_hours: float | None
    recover_hours: float


def plan_synthesis(
    config: SweepConfig,
    num_classes: int,
    num_training_images: int | None,
    size: int,
    forward_rate: float,
    device: torch.device,
    measure_seconds: float,
) -> SynthesisPlan:
    """Plan squeeze and recover, with an untrained network.

    Args:
        forward_rate: images per second that the teacher labels.
        measure_seconds: of a measurement, about.

    Raises:
        ConfigError: the teacher has no batch norm, or takes images of another size.
    """
    recipe, ipc = config.recover, config.images.ipc or 10
    architecture = config.teacher.architecture or "convnet"
    spec = TeacherSpec(architecture, num_classes, input_size=config.teacher.input_size)
    recoverer = Recoverer(
        Teacher(build(architecture, num_classes), spec), replace(recipe, iterations=_ITERATIONS), size, device
    )
    batches = batches_of(num_classes, ipc, recipe)
    batch_size = max(len(batch.classes) for batch in batches)
    # A whole batch takes minutes on a CPU.
    count = batch_size if device.type == "cuda" else min(batch_size, _MOST_IMAGES)
    measured = Batch(np.zeros(count, dtype=np.int64), np.arange(count))
    made_up = ClassStatistics.standard(measured.class_ids, recoverer.channels)
    real = torch.zeros(count, 3, size, size, dtype=torch.uint8) if recipe.init == "real" else None
    seconds = seconds_per_call(lambda: recoverer.recover(measured, made_up, real), device, measure_seconds)
    rate = _ITERATIONS * count / seconds
    squeeze_hours = None if num_training_images is None else num_training_images / forward_rate / 3600
    class_bytes = _ID_AND_COUNT_BYTES + 2 * _VALUE_BYTES * sum(recoverer.channels.values())
    return SynthesisPlan(
        num_training_images=num_training_images,
        statistics_bytes=num_classes * class_bytes if recipe.mode == "class" else 0,
        num_batches=len(batches),
        batch_size=batch_size,
        iterations=recipe.iterations,
        image_rate=rate,
        squeeze_hours=squeeze_hours if recipe.mode == "class" else 0.0,
        recover_hours=num_classes * ipc * recipe.iterations / rate / 3600,
    )
