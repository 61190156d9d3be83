"""Squeeze and recover on Ray: class-wise statistics of a teacher, then the distilled images that have them.

Images are one file a batch until all are there, so that an interrupted job goes on; then Parquet, and nothing else is
kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from lpqld.distill import Recoverer, StatisticsFolder
from lpqld.errors import ConfigError
from lpqld.images import room_for, write_parquet
from lpqld.progress import SILENT, Progress
from lpqld.storage import Location, file_sizes, read_json
from sweeps.cluster import Answer, NumberedFiles, claim, make_files, write_retried
from sweeps.jobs.recover_batches import BatchMaker, History, batch_file, read_batch
from sweeps.jobs.squeeze_chunks import squeeze_classes
from sweeps.jobs.synthesis_spec import SynthesisJob
from sweeps.report import contact_sheet

ABOUT_FILE, SHEETS_FOLDER = "recovered.json", "contact-sheets"
_WORK_FOLDER, _JOB_FILE = ".recover", ".recover.json"
_MOST_COLUMNS = 20  # of a contact sheet

OnLosses = Callable[[int, History], None]


@dataclass(frozen=True)
class DistilledImages:
    """Finished images.

    Attributes:
        folder: which `ImageSet.open` reads.
        about: recipe, teacher, training images, and the history of every batch's losses.
    """

    folder: Location
    about: dict[str, Any]


def synthesize(
    job: SynthesisJob,
    out: Location,
    statistics: Location,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
    on_losses: OnLosses = lambda index, losses: None,
) -> DistilledImages:
    """Squeeze and recover the images of a job, into the folder `out`, on the connected Ray cluster.

    Run again, it resumes; a finished folder is left as it is. The images do not depend on the number of workers.

    Args:
        statistics: a folder of statistics, which jobs share.
        progress: told of squeeze and recover.
        on_losses: called with the number of each batch as it is done, and its losses, as `DistilledImages` has them.

    Raises:
        ConfigError: the teacher has no batch norm, or `out` holds something else or cannot be written.
        DataError: an image cannot be read, or a loss is not finite, naming the classes.
    """
    about = _finished(out, job.fingerprint)
    if about is not None:
        _clean(out)  # of a job that was killed after its last step
        progress.progress("recover", len(job.batches), len(job.batches))
        return DistilledImages(out, about)
    # A teacher that will not do is refused now.
    Recoverer(job.teacher, job.recipe, job.images.size, torch.device("cpu"))
    claim(out, _JOB_FILE, job.fingerprint, "images", "synthesize job")
    squeezed = None
    if job.recipe.mode == "class":
        squeezed = squeeze_classes(job.teacher, job.images, statistics, workers=workers, progress=progress)
    work = (out / _WORK_FOLDER).absolute()
    make_files(
        NumberedFiles(work, len(job.batches), batch_file),
        lambda _missing: _batch_maker(job, squeezed),
        phase="recover",
        workers=workers,
        progress=progress,
        on_answer=lambda index, answer: _tell_losses(on_losses, index, answer),
    )
    return _assemble(job, out, work)


def _batch_maker(job: SynthesisJob, statistics: StatisticsFolder | None) -> BatchMaker:
    # Workers need the records themselves only where images start from them.
    images = job.images if job.recipe.init == "real" else job.images.of_classes([])
    return BatchMaker(ray.put(job.teacher.cpu()), ray.put(images), statistics, job.recipe, job.ipc)


def _tell_losses(on_losses: OnLosses, index: int, answer: Answer) -> None:
    # A batch that another job on the folder has made meanwhile answers nothing.
    on_losses(index, answer.get("losses", []))


def _assemble(job: SynthesisJob, out: Location, work: Location) -> DistilledImages:
    """All batches as one image set, class after class, with a contact sheet of each batch; the batches go."""
    images, ipc = job.images, job.ipc
    losses: list[History] = []
    pixels, _ = room_for((images.num_classes * ipc, 3, images.size, images.size), None)
    for index, batch in enumerate(job.batches):
        of_batch, history = read_batch(work / batch_file(index))
        pixels[batch.classes * ipc + batch.numbers] = of_batch
        losses.append(history.tolist())
        sheet = contact_sheet(of_batch, min(ipc, _MOST_COLUMNS) if job.recipe.mode == "class" else 10)
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
    return DistilledImages(out, about)


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
