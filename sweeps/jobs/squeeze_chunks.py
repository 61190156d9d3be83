"""Squeeze on Ray: class-wise statistics of a teacher, one file a chunk of classes.

They are found again by the fingerprint of teacher and images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import ray
import torch

from lpqld.distill import StatisticsFolder, chunk_classes, num_chunks, squeeze, statistics_file, statistics_to_bytes
from lpqld.images import TrainingImages
from lpqld.models import Teacher
from lpqld.progress import SILENT, Progress
from lpqld.storage import Location, canonical_json, fingerprint
from sweeps.cluster import Answer, NumberedFiles, make_files

_SQUEEZE_BATCH = 100
_VERSION = 1


@dataclass(frozen=True)
class _ChunkMaker:
    """Shows a teacher the images of a chunk of classes; both are in the object store, the images by chunk."""

    doing: ClassVar[str] = "squeezing"

    teacher: Any
    chunks: dict[int, Any]
    identity: str

    def load(self, device: torch.device) -> tuple[Teacher, torch.device]:
        teacher: Teacher = ray.get(self.teacher)
        return teacher.to(device).to(memory_format=torch.channels_last).eval(), device

    def make(self, loaded: tuple[Teacher, torch.device], index: int) -> tuple[bytes, Answer]:
        teacher, device = loaded
        images: TrainingImages = ray.get(self.chunks[index])
        class_ids = chunk_classes(images.num_classes, index)
        sums = squeeze(teacher, images.batches(_SQUEEZE_BATCH), class_ids.tolist(), device)
        return statistics_to_bytes(sums.statistics(), self.identity), {}


def squeeze_classes(
    teacher: Teacher,
    images: TrainingImages,
    root: Location,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> StatisticsFolder:
    """The statistics of every class, in a folder of `root`; made where there are none of this teacher and images.

    Raises:
        ConfigError: the teacher has no batch norm, or the folder cannot be written.
        DataError: an image cannot be read, the teacher gives what is not finite, or a file that is there is damaged.
    """
    identity = fingerprint(canonical_json(["squeeze", _VERSION, teacher.fingerprint, images.fingerprint]))
    statistics = StatisticsFolder((root / identity[:16]).absolute(), images.num_classes, identity)

    def maker_for(missing: list[int]) -> _ChunkMaker:
        # A worker holds the records of one chunk only.
        chunks = {index: ray.put(images.of_classes(chunk_classes(images.num_classes, index))) for index in missing}
        return _ChunkMaker(ray.put(teacher.cpu()), chunks, identity)

    files = NumberedFiles(
        statistics.folder, num_chunks(images.num_classes), statistics_file, partial(_check_chunk, statistics)
    )
    make_files(files, maker_for, phase="squeeze", workers=workers, progress=progress)
    return statistics


def _check_chunk(statistics: StatisticsFolder, index: int, _path: Location) -> Answer:
    """Refuse a damaged file now, not when images are to be recovered from it."""
    statistics.read_chunk(index)
    return {}
