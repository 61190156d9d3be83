"""Distilled images in MLflow: a run a job, its losses as they come, its contact sheets when it ends."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lpqld.progress import SILENT, Progress
from lpqld.storage import Location
from sweeps.jobs.recover_batches import History
from sweeps.jobs.synthesis import SHEETS_FOLDER, DistilledImages, OnLosses, sheet_file, synthesize
from sweeps.jobs.synthesis_spec import SynthesisJob
from sweeps.tracking import KIND_TAG, Experiment

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "synthesize"  # of jobs that are part of no sweep
IDENTITY_TAG = "lpqld.recover"
_MOST_SHEETS = 20


def synthesize_tracked(
    experiment: Experiment,
    job: SynthesisJob,
    out: Location,
    statistics: Location,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> DistilledImages:
    """`synthesize` with a run in an experiment; the job's earlier run is continued, or left alone if it finished."""

    def distil(on_losses: OnLosses) -> DistilledImages:
        return synthesize(job, out, statistics, workers=workers, progress=progress, on_losses=on_losses)

    runs = experiment.search(f"tags.`{IDENTITY_TAG}` = '{job.fingerprint}'")
    if runs and runs[0].info.status == "FINISHED":
        return distil(lambda index, history: None)
    with _run(experiment, runs, job.fingerprint, f"recover {Path(str(out)).name}") as run:
        params = {
            "recover": job.recipe.to_json(),
            "ipc": job.ipc,
            "size": job.images.size,
            "teacher": job.teacher.spec.to_json(),
        }
        experiment.log_params(run.info.run_id, params, known=run.data.params)
        distilled = distil(lambda index, history: _log_batch(experiment, run, index, history))
        _log_end(experiment, run, distilled)
    return distilled


@contextlib.contextmanager
def _run(experiment: Experiment, earlier: list[Run], identity: str, name: str) -> Iterator[Run]:
    """A run that goes on, or a new one; it ends with the block."""
    if earlier:
        run = earlier[0]
        experiment.client.update_run(run.info.run_id, status="RUNNING")
    else:
        tags = {IDENTITY_TAG: identity, KIND_TAG: "recover", "mlflow.source.name": "lpqld synthesize"}
        run = experiment.new_run(name, tags)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        experiment.client.set_terminated(run.info.run_id, status=status)


def _log_batch(experiment: Experiment, run: Run, index: int, history: History) -> None:
    """The losses that a batch ended with, by its number."""
    if history:
        _, entropy, distance = history[-1]
        losses = ("batch.cross_entropy", entropy, index), ("batch.batch_norm", distance, index)
        experiment.log_metrics(run.info.run_id, losses)


def _log_end(experiment: Experiment, run: Run, distilled: DistilledImages) -> None:
    """Losses by iteration, means over all batches; the first contact sheets."""
    steps = list(zip(*distilled.about["losses"], strict=True))
    for column, key in ((1, "cross_entropy"), (2, "batch_norm")):
        means = [(key, fmean(row[column] for row in step), int(step[0][0])) for step in steps]
        experiment.log_metrics(run.info.run_id, means)
    names = [sheet_file(index) for index in range(min(_MOST_SHEETS, len(distilled.about["losses"])))]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:  # from where they lie, which may be shared storage
            (Path(folder) / name).write_bytes((distilled.folder / SHEETS_FOLDER / name).read_bytes())
        experiment.client.log_artifacts(run.info.run_id, folder, SHEETS_FOLDER)
