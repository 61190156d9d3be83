"""Recover on Ray: distilled images, one file a batch until all are there."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from lpqld.distill import Batch, Recoverer, RecoverRecipe, StatisticsFolder, batches_of
from lpqld.errors import DataError
from lpqld.images import TrainingImages
from lpqld.storage import Location
from sweeps.cluster import Answer

History = list[list[float]]  # of a batch: iteration, cross-entropy, batch norm, now and then


def batch_file(index: int) -> str:
    """The name of a batch's file."""
    return f"batch-{index:05d}.npz"


def read_batch(path: Location) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Images [B, 3, S, S] and losses of a batch, one row as `History` has them for each time that they were noted.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as content:
            return content["pixels"], content["history"]
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: --out must be a folder that every node and this machine see") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: this batch of recovered images is damaged ({error}); delete it and run the same command again"
        ) from error


@dataclass(frozen=True)
class RecoverWorker:
    """What a worker holds: the teacher at work on its device, the training images, and the batches."""

    recoverer: Recoverer
    images: TrainingImages
    batches: list[Batch]


@dataclass(frozen=True)
class BatchMaker:
    """Recovers a batch of images; `teacher` and `images` are in the object store.

    Attributes:
        statistics: of the classes; None in the modes that take the teacher's running ones.
        ipc: images of a class.
    """

    doing: ClassVar[str] = "recovering"

    teacher: Any
    images: Any
    statistics: StatisticsFolder | None
    recipe: RecoverRecipe
    ipc: int

    def load(self, device: torch.device) -> RecoverWorker:
        """A recoverer on the worker's device."""
        teacher, images = ray.get([self.teacher, self.images])
        batches = batches_of(images.num_classes, self.ipc, self.recipe)
        return RecoverWorker(Recoverer(teacher, self.recipe, images.size, device), images, batches)

    def make(self, loaded: RecoverWorker, index: int) -> tuple[bytes, Answer]:
        """Images and losses as `read_batch` reads them; the losses as the answer."""
        batch = loaded.batches[index]
        real = None
        if self.recipe.init != "noise":
            real = loaded.images.sample(batch.classes, batch.numbers, self.recipe.seed)
        statistics = None if self.statistics is None else self.statistics.read(batch.class_ids)
        pixels, losses = loaded.recoverer.recover(batch, statistics, real)
        history = np.array([[loss.iteration, loss.cross_entropy, loss.batch_norm] for loss in losses])
        buffer = io.BytesIO()
        np.savez(buffer, pixels=pixels.numpy(), history=history)
        return buffer.getvalue(), {"losses": history.tolist()}
