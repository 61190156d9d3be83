"""Squeeze and recover on Ray: class-wise statistics of a teacher, then the distilled images that have them.

Recovered images are one file a batch until all are there, so that an interrupted job goes on; then Parquet, and nothing
else is kept.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from lpqld.distill import Batch, Recoverer, RecoverRecipe, StatisticsFolder, batches_of
from lpqld.errors import ConfigError, DataError
from lpqld.images import TrainingImages, room_for, write_parquet
from lpqld.storage import Location, file_sizes, read_json
from sweeps.cluster import Answer, FileMaker, Progress, claim, make_files, use_assigned_resources, write_retried
from sweeps.jobs.recover_spec import RecoverJob
from sweeps.jobs.squeeze_chunks import squeeze_classes
from sweeps.report import contact_sheet

ABOUT_FILE, SHEETS_FOLDER = "recovered.json", "contact-sheets"
_WORK_FOLDER, _JOB_FILE = ".recover", ".recover.json"
_MOST_COLUMNS = 20  # of a contact sheet


History = list[list[float]]  # of a batch: iteration, cross-entropy, batch norm, now and then
OnLosses = Callable[[int, History], None]


@dataclass(frozen=True)
class RecoveredImages:
    """Finished images.

    Attributes:
        folder: which `ImageSet.open` reads.
        about: recipe, teacher, training images, and the history of every batch's losses.
    """

    folder: Location
    about: dict[str, Any]


class _BatchRecoverer(FileMaker):
    """An actor: a teacher that recovers batches of images."""

    doing = "recovering"

    def __init__(
        self,
        teacher: Any,
        images: Any,
        statistics: StatisticsFolder | None,
        recipe: RecoverRecipe,
        ipc: int,
        folder: Location,
        tries: Any,
    ) -> None:
        super().__init__(folder, tries)
        self._data, self._statistics, self._recipe, self._ipc = (teacher, images), statistics, recipe, ipc
        self._loaded: tuple[Recoverer, TrainingImages, list[Batch]] | None = None

    def name(self, index: int) -> str:
        return _batch_file(index)

    def make(self, index: int) -> tuple[bytes, Answer]:
        if self._loaded is None:
            device = use_assigned_resources(cpus=1)
            teacher, images = ray.get(list(self._data))
            batches = batches_of(images.num_classes, self._ipc, self._recipe)
            self._loaded = Recoverer(teacher, self._recipe, images.size, device), images, batches
        recoverer, images, batches = self._loaded
        batch = batches[index]
        real = None if self._recipe.init == "noise" else images.sample(batch.classes, batch.numbers, self._recipe.seed)
        statistics = None if self._statistics is None else self._statistics.read(batch.class_ids)
        pixels, losses = recoverer.recover(batch, statistics, real)
        history = np.array([[loss.iteration, loss.cross_entropy, loss.batch_norm] for loss in losses])
        buffer = io.BytesIO()
        np.savez(buffer, pixels=pixels.numpy(), history=history)
        return buffer.getvalue(), {"losses": history.tolist()}


def synthesize(
    job: RecoverJob,
    out: Location,
    statistics: Location,
    *,
    workers: int | None = None,
    progress: Progress = lambda phase, done, total: None,
    on_losses: OnLosses = lambda index, losses: None,
) -> RecoveredImages:
    """Squeeze and recover the images of a job, into the folder `out`, on the connected Ray cluster.

    Run again, it resumes; a finished folder is left as it is. The images do not depend on the number of workers.

    Args:
        statistics: a folder of statistics, which jobs share.
        progress: called with a phase (squeeze, recover), and how much of it is done and there.
        on_losses: called with the number of each batch as it is done, and its losses, as `RecoveredImages` has them.

    Raises:
        ConfigError: the teacher has no batch norm, or `out` holds something else or cannot be written.
        DataError: an image cannot be read, or a loss is not finite, naming the classes.
    """
    teacher, images, recipe = job.teacher, job.images, job.recipe
    found = _finished(out, job.fingerprint)
    if found is not None:
        _clean(out)  # of a job that was killed after its last step
        progress("recover", len(job.batches), len(job.batches))
        return RecoveredImages(out, found)
    Recoverer(teacher, recipe, images.size, torch.device("cpu"))  # a teacher that will not do is refused now
    claim(out, _JOB_FILE, job.fingerprint, "images", "synthesize job")
    squeezed = None
    if recipe.mode == "class":
        squeezed = squeeze_classes(teacher, images, statistics, workers=workers, progress=progress)
    work = (out / _WORK_FOLDER).absolute()
    pending = [index for index in range(len(job.batches)) if not (work / _batch_file(index)).exists()]
    arguments: dict[str, Any] = {"statistics": squeezed, "recipe": recipe, "ipc": job.ipc}
    if pending:  # workers need the records themselves only where images start from them
        known = images if recipe.init == "real" else images.of_classes([])
        arguments |= {"teacher": ray.put(teacher.cpu()), "images": ray.put(known)}

    def tell(index: int, answer: Answer) -> None:
        on_losses(index, answer.get("losses", []))

    make_files(_BatchRecoverer, arguments, work, pending, len(job.batches), "recover", workers, progress, tell)
    return _assemble(job, out, work)


def _assemble(job: RecoverJob, out: Location, work: Location) -> RecoveredImages:
    """All batches as one image set, class after class, with a contact sheet of each batch; the batches go."""
    images, ipc = job.images, job.ipc
    losses: list[History] = []
    pixels, _ = room_for((images.num_classes * ipc, 3, images.size, images.size), None)
    for index, batch in enumerate(job.batches):
        some, history = _read_batch(work / _batch_file(index))
        pixels[batch.classes * ipc + batch.numbers] = some
        losses.append(history.tolist())
        sheet = contact_sheet(some, min(ipc, _MOST_COLUMNS) if job.recipe.mode == "class" else 10)
        write_retried(out / SHEETS_FOLDER / sheet_file(index), sheet)
    rows = np.arange(len(pixels))
    write_parquet(out, pixels, rows // ipc, rows, images.class_names, job.encoding)
    about = job.to_json() | {
        "fingerprint": job.fingerprint,
        "class_names": list(images.class_names),
        "losses": losses,
    }
    write_retried(out / ABOUT_FILE, json.dumps(about).encode())
    _clean(out)
    return RecoveredImages(out, about)


def _clean(out: Location) -> None:
    """Leave nothing in `out` but the images, and what is told of them."""
    for name in file_sizes(out / _WORK_FOLDER):
        (out / _WORK_FOLDER / name).unlink(missing_ok=True)
    if isinstance(out, Path):
        shutil.rmtree(out / _WORK_FOLDER, ignore_errors=True)
    (out / _JOB_FILE).unlink(missing_ok=True)


def sheet_file(index: int) -> str:
    """The name of a batch's contact sheet."""
    return f"batch-{index:05d}.png"


def _read_batch(path: Location) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Images [B, 3, S, S] and losses of a batch."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as content:
            return content["pixels"], content["history"]
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: --out must be a folder that every node and this machine see") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: this batch of recovered images is damaged ({error}); delete it and run the same command again"
        ) from error


def _batch_file(index: int) -> str:
    return f"batch-{index:05d}.npz"


def _finished(out: Location, identity: str) -> dict[str, Any] | None:
    """What stands beside finished images of this job; None where there are none."""
    path = out / ABOUT_FILE
    if not path.is_file():
        return None
    about = read_json(path, f"delete {out} and run the same command again")
    if about.get("fingerprint") != identity:
        raise ConfigError(
            f"{out} holds images that were recovered with other settings, teacher or training images; choose another "
            f"--out"
        )
    return about
