"""The main job: images, teacher, relabel, search, confirm, report. Run again, it goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lpqld.progress import SILENT, Progress
from lpqld.storage import write_atomically
from sweeps.cluster import TrialResources, cluster, trial_resources
from sweeps.config import SweepConfig
from sweeps.jobs import LABELS_FOLDER
from sweeps.report import (
    IMAGES_FILE,
    TEMPERATURES_FILE,
    SweepResult,
    environment,
    mark_front,
    side_by_side,
    write_report,
)
from sweeps.search import (
    REPORT_FOLDER,
    Baselines,
    BudgetChoice,
    Choice,
    SharedData,
    Space,
    SweepJob,
    TrialLog,
    TrialResult,
    baselines,
    best_choice,
    claimed,
    confirm,
    object_store_bytes,
    open_inputs,
    point_of,
    search,
    share_masters,
    spaces_for,
    start_tracking,
    temperatures_png,
    written_point,
)


def run_sweep(
    config: SweepConfig,
    root: Path,
    *,
    address: str | None = None,
    progress: Progress = SILENT,
) -> SweepResult:
    """Run a sweep to its end, or go on with one that was interrupted.

    Args:
        config: what to do.
        root: a local folder: results go to `root/<name>`; label sets that sweeps may share to `root/labels`, or where
            `relabel.folder` says.
        address: of a Ray cluster; default a local one.
        progress: told what happens.

    Raises:
        ConfigError: data is missing, a budget is impossible, or the root is another configuration's or unwritable.
        DataError: images or teacher are wrong.
    """
    config.require_data()
    with claimed(root / config.name, config):
        job = SweepJob.begin(config, root, progress)
        inputs = open_inputs(job, address)
        with cluster(address, object_store_bytes=object_store_bytes(config, inputs)):
            resources = trial_resources(config.resources, config.student, inputs.images)
            data = share_masters(job, inputs)
            del inputs  # from here on this process, too, reads the copy in the object store
            spaces = spaces_for(config.search.budget_bytes(data.all_label_bytes), config.search, data.shared)
            tracker = start_tracking(job, data)
            with tracker.finishing():
                log = TrialLog(progress, tracker)
                searched = _search(job, data, spaces, resources, log)
                confirmed = _confirm(job, data, searched, resources, log)
                result = _write(job, data, searched, confirmed)
                tracker.log_report(result, job.folder / REPORT_FOLDER)
    return result


@dataclass(frozen=True)
class Searched:
    """The trials of a search, and its budgets in bytes, largest first."""

    budgets: tuple[int, ...]
    results: tuple[TrialResult, ...]


@dataclass(frozen=True)
class Confirmed:
    """Each budget's best choice and the baselines, with their students of several seeds by trial id."""

    best: tuple[BudgetChoice, ...]
    baselines: Baselines
    results: dict[str, list[TrialResult]]

    def of(self, choice: Choice) -> list[TrialResult]:
        """The students of a choice, in the order of their seeds."""
        return self.results[choice.trial_id]


def _search(job: SweepJob, data: SharedData, spaces: list[Space], resources: TrialResources, log: TrialLog) -> Searched:
    """Run the trials of every budget."""
    config = job.config
    with job.clock.phase("search"):
        log.start("search", config.search.trials * len(spaces))
        results = search(
            data.reference,
            spaces,
            config.search,
            config.paper,
            resources,
            job.folder,
            seed=config.seed,
            on_result=log.add,
        )
    return Searched(tuple(space.budget for space in spaces), tuple(results))


def _confirm(
    job: SweepJob, data: SharedData, searched: Searched, resources: TrialResources, log: TrialLog
) -> Confirmed:
    """Train the best choice of every budget, and the baselines, over several seeds."""
    config = job.config.confirm
    with job.clock.phase("confirm"):
        best = tuple(best_choice(searched.results, budget) for budget in searched.budgets)
        others = baselines(job.config, data.shared, searched.budgets) if config.baselines else Baselines()
        choices, seeds = [*best, *others.choices], range(1, config.seeds + 1)
        log.start("confirm", len(seeds) * len(choices))
        results = confirm(choices, seeds, data.reference, resources, job.folder, on_result=log.add)
    return Confirmed(best, others, results)


def _write(job: SweepJob, data: SharedData, searched: Searched, confirmed: Confirmed) -> SweepResult:
    """Write the label sets of the best choices, the result and the report."""
    labels_folder, report_folder = job.folder / LABELS_FOLDER, job.folder / REPORT_FOLDER
    points = [written_point(best, confirmed.of(best), data.shared, labels_folder) for best in confirmed.best]
    result = SweepResult(
        experiment=job.config.name,
        root=str(job.root),
        teacher=data.about_teacher,
        points=tuple(mark_front(points)),
        baselines=tuple(point_of(confirmed.of(choice)) for choice in confirmed.baselines.choices),
        seconds=dict(job.clock.seconds),
        all_label_bytes=data.all_label_bytes,
        num_trials=len(searched.results),
        notes=confirmed.baselines.notes,
        environment=environment(),
    )
    result.save(job.folder)
    write_report(result, report_folder)
    first_students = [confirmed.of(best)[0] for best in confirmed.best]
    write_atomically(report_folder / TEMPERATURES_FILE, temperatures_png(first_students))
    if data.shared.real is not None:
        write_atomically(report_folder / IMAGES_FILE, side_by_side(data.shared.images, data.shared.real.images))
    return result
