"""Squeeze on Ray: class-wise statistics of a teacher, one file a chunk of classes.

They are found again by the fingerprint of teacher and images.
"""

from __future__ import annotations

from typing import Any

import ray
import torch

from lpqld.distill import StatisticsFolder, chunk_classes, num_chunks, squeeze, statistics_file, statistics_to_bytes
from lpqld.images import TrainingImages
from lpqld.models import Teacher
from lpqld.storage import Location, canonical_json, fingerprint
from sweeps.cluster import Answer, FileMaker, Progress, make_files, use_assigned_resources

_SQUEEZE_BATCH = 100
_VERSION = 1


class _Squeezer(FileMaker):
    """An actor: a teacher that sees the images of a chunk of classes."""

    doing = "squeezing"

    def __init__(self, teacher: Any, chunks: dict[int, Any], folder: Location, identity: str, tries: Any) -> None:
        super().__init__(folder, tries)
        self._teacher, self._chunks, self._identity = teacher, chunks, identity
        self._loaded: tuple[Teacher, torch.device] | None = None

    def name(self, index: int) -> str:
        return statistics_file(index)

    def make(self, index: int) -> tuple[bytes, Answer]:
        if self._loaded is None:
            device = use_assigned_resources(cpus=1)
            teacher = ray.get(self._teacher)
            self._loaded = teacher.to(device).to(memory_format=torch.channels_last).eval(), device
        teacher, device = self._loaded
        images: TrainingImages = ray.get(self._chunks[index])
        class_ids = chunk_classes(images.num_classes, index)
        sums = squeeze(teacher, images.batches(_SQUEEZE_BATCH), class_ids.tolist(), device)
        return statistics_to_bytes(sums.statistics(), self._identity), {}


def squeeze_classes(
    teacher: Teacher,
    images: TrainingImages,
    root: Location,
    *,
    workers: int | None = None,
    progress: Progress = lambda phase, done, total: None,
) -> StatisticsFolder:
    """The statistics of every class, in a folder of `root`; made where there are none of this teacher and images.

    Raises:
        ConfigError: the teacher has no batch norm, or the folder cannot be written.
        DataError: an image cannot be read, the teacher gives what is not finite, or a file that is there is damaged.
    """
    identity = fingerprint(canonical_json(["squeeze", _VERSION, teacher.fingerprint, images.fingerprint]))
    statistics = StatisticsFolder((root / identity[:16]).absolute(), images.num_classes, identity)
    total = num_chunks(images.num_classes)
    pending = [index for index in range(total) if not statistics.path(index).is_file()]
    for index in sorted(set(range(total)) - set(pending)):
        statistics.read_chunk(index)  # a damaged one is refused now
    # A worker holds the records of one chunk only.
    chunks = {index: ray.put(images.of_classes(chunk_classes(images.num_classes, index))) for index in pending}
    arguments = {"teacher": ray.put(teacher.cpu()), "chunks": chunks, "identity": identity}
    make_files(_Squeezer, arguments, statistics.folder, pending, total, "squeeze", workers, progress)
    return statistics
