"""The images of a sweep: read, or recovered from the teacher's training images, once for all sweeps of a root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lpqld.images import ImageSet, TrainingImages
from lpqld.models import Teacher
from lpqld.progress import Progress
from sweeps.cluster import cluster, object_store_for
from sweeps.config import SweepConfig
from sweeps.jobs.images_place import note_images
from sweeps.jobs.inputs import open_images
from sweeps.jobs.synthesis_spec import SynthesisJob
from sweeps.jobs.synthesis_tracked import synthesize_tracked
from sweeps.tracking import Experiment

RECOVERED_FOLDER, STATISTICS_FOLDER = "recovered", "statistics"


def make_images(
    config: SweepConfig,
    root: Path,
    folder: Path,
    teacher_for: Callable[[tuple[str, ...]], Teacher],
    *,
    address: str | None,
    progress: Progress,
) -> ImageSet:
    """The images that `config` names; where it says `recover`, they are recovered first, or found again.

    Args:
        root: recovered images and class statistics are kept there.
        folder: the sweep's, where a note of their place is kept.
        teacher_for: the sweep's teacher of classes by name, in the order of the images.
        address: of a Ray cluster.
        progress: told of squeeze and recover.
    """
    if not config.recovers:
        return open_images(config.images)
    assert config.images.real is not None, "require_data comes first"
    assert config.images.ipc is not None, "require_data comes first"
    training = TrainingImages.open(config.images.real, size=config.images.size)
    teacher = teacher_for(training.class_names)
    job = SynthesisJob(teacher, training, config.recover, config.images.ipc)
    out = root / RECOVERED_FOLDER / job.fingerprint[:16]
    with cluster(address, object_store_bytes=object_store_for(training.held_bytes)):
        synthesize_tracked(Experiment.open(root, config.name), job, out, root / STATISTICS_FOLDER, progress=progress)
    note_images(folder, out)
    return open_images(config.images, source=str(out))
