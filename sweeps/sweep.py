"""The main job: images, teacher, relabel, search, confirm, report. Run again, it goes on where it stopped."""

from __future__ import annotations

import functools
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
import torch

from lpqld.byte_sizes import format_bytes
from lpqld.images import ImageSet
from lpqld.models import Teacher, accuracy, build, choose_device
from lpqld.progress import SILENT, Progress
from lpqld.storage import canonical_json, fingerprint, write_atomically
from sweeps.cluster import cluster, trial_resources
from sweeps.config import SweepConfig
from sweeps.jobs import LABELS_FOLDER, check_classes, fit_or_open_teacher, make_images, make_master, open_evaluation
from sweeps.report import (
    IMAGES_FILE,
    TEMPERATURES_FILE,
    Accuracy,
    Point,
    SweepResult,
    mark_front,
    png,
    side_by_side,
    temperature_figure,
    write_report,
)
from sweeps.search import (
    REPORT_FOLDER,
    SECONDS_FILE,
    Choice,
    Clock,
    Shared,
    TrialResult,
    all_label_bytes,
    baselines,
    claimed,
    confirm,
    encode_chosen,
    masters_by_epoch,
    object_store_bytes,
    search,
    shared_of,
    spaces_for,
)
from sweeps.tracking import Experiment, Tracker

_PACKAGES = ("lpqld", "torch", "timm", "ray", "mlflow", "optuna", "pyarrow", "numpy")


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
        progress: told what happens, and how much of each phase is done.

    Raises:
        ConfigError: data is missing, a budget is impossible, or the root is another configuration's or unwritable.
        DataError: images or teacher are wrong.
    """
    config.require_data()
    folder = root / config.name
    with claimed(folder, config):
        return _run(config, root, folder, address, progress)


def _run(config: SweepConfig, root: Path, folder: Path, address: str | None, progress: Progress) -> SweepResult:
    clock, device = Clock(folder / SECONDS_FILE), choose_device()

    @functools.cache
    def teacher_for(class_names: tuple[str, ...]) -> Teacher:
        return fit_or_open_teacher(config, class_names, folder, device, progress)

    with clock.phase("images"):
        images = make_images(config, root, folder, teacher_for, address=address, progress=progress)
        evaluation = open_evaluation(config.eval, images)
        check_classes(images, evaluation)
        with torch.device("meta"):  # an unknown student is refused now, not by every trial
            build(config.student.architecture, images.num_classes)
        progress.say(
            f"images: {images.num_images} of {images.num_classes} classes, {images.size} px, "
            f"{format_bytes(images.image_bytes)}"
        )
    with clock.phase("teacher"):
        teacher, about_teacher = None, dict[str, Any]()
        if config.has_teacher:
            teacher = teacher_for(images.class_names)
            teacher_accuracy = accuracy(teacher.to(device), evaluation.test, device=device)
            about_teacher = {
                "accuracy": teacher_accuracy, **teacher.spec.to_json(), "fingerprint": teacher.fingerprint
            }  # fmt: skip
            progress.say(f"teacher: {teacher.spec.architecture}, test accuracy {teacher_accuracy:.2%}")
    with cluster(address, object_store_bytes=object_store_bytes(config, images, evaluation)):
        wanted = trial_resources(config.resources, config.student, images)
        with clock.phase("relabel"):
            master = make_master(config, teacher, images, root, device, progress)
            by_epoch = masters_by_epoch(config, images, root, device, progress)
            images = master.label_set.images_of(images)
            about_teacher = about_teacher or {"accuracy": None, **master.spec.teacher.to_json()}
            size, where = format_bytes(master.label_set.num_bytes["total"]), master.label_set.folder
            progress.say(f"labels: {master.spec.num_views} of {master.label_set.spec.num_views} views, {size}, {where}")
            # From here on all processes, this one too, read what trials need in the object store: one copy a node.
            data = ray.put(shared_of(config, images, evaluation, master, by_epoch, teacher, root, device).prepared())
            shared: Shared = ray.get(data)
            images = shared.images
            del evaluation
        all_bytes = all_label_bytes(shared.labels)
        budgets = config.search.budget_bytes(all_bytes)
        spaces = spaces_for(budgets, config.search, shared)
        tracker = Tracker(Experiment.open(root, config.name))
        tracker.start_parent(*_description(config, images, about_teacher, shared, all_bytes))
        with tracker.finishing():
            counted = _Counter(progress, tracker)
            with clock.phase("search"):
                counted.start("search", config.search.trials * len(budgets))
                results = search(
                    data,
                    spaces,
                    config.search,
                    config.paper,
                    wanted,
                    folder,
                    seed=config.seed,
                    on_result=counted.add,
                )
            with clock.phase("confirm"):
                best = [_best(results, budget) for budget in budgets]
                others, notes = baselines(config, shared, budgets) if config.confirm.baselines else ([], [])
                seeds = range(1, config.confirm.seeds + 1)
                counted.start("confirm", len(seeds) * len([*best, *others]))
                confirmed = confirm([*best, *others], seeds, data, wanted, folder, on_result=counted.add)
            points = mark_front([_write_winner(choice, confirmed[choice.trial_id], shared, folder) for choice in best])
            result = SweepResult(
                experiment=config.name,
                root=str(root),
                teacher=about_teacher,
                points=tuple(points),
                baselines=tuple(_point(confirmed[choice.trial_id]) for choice in others),
                seconds=dict(clock.seconds),
                all_label_bytes=all_bytes,
                num_trials=len(results),
                notes=tuple(notes),
                environment=environment(),
            )
            result.save(folder)
            write_report(result, folder / REPORT_FOLDER)
            write_atomically(
                folder / REPORT_FOLDER / TEMPERATURES_FILE, _temperatures([confirmed[c.trial_id][0] for c in best])
            )
            if shared.real is not None:
                write_atomically(folder / REPORT_FOLDER / IMAGES_FILE, side_by_side(images, shared.real[0]))
            tracker.log_report(result, folder / REPORT_FOLDER)
    return result


def environment() -> dict[str, str]:
    """Versions and hardware, for reports."""
    versions = {package: metadata.version(package) for package in _PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {**versions, "python": platform.python_version(), "machine": platform.machine(), "gpu": gpu}


def _best(results: list[TrialResult], budget: int) -> Choice:
    """The choice of a budget with the highest validation accuracy; stopped trials only where none finished."""
    candidates = [result for result in results if result.choice.budget == budget]
    finished = [result for result in candidates if result.finished] or candidates
    return max(finished, key=lambda result: result.val_accuracy).choice


def _point(results: list[TrialResult]) -> Point:
    """One choice's seeds as a point."""
    first = results[0]
    accuracies = [result.test_accuracy for result in results if result.test_accuracy is not None]
    return Point(
        trial_id=first.choice.trial_id,
        budget=first.choice.budget,
        label_bytes=first.label_bytes,
        image_bytes=first.image_bytes,
        accuracy=Accuracy.of(accuracies),
        val_accuracy=Accuracy.of([result.val_accuracy for result in results]).mean,
        config=first.config,
    )


def _write_winner(choice: Choice, results: list[TrialResult], shared: Shared, folder: Path) -> Point:
    """Write the label set of a budget's best choice to disk; its bytes are those that were reported."""
    target = folder / LABELS_FOLDER / choice.trial_id
    encode_chosen(choice, shared).write(target)
    return replace(_point(results), labels=str(target))


def _temperatures(results: list[TrialResult]) -> bytes:
    """The temperatures of a student of each budget's best choice, as PNG."""
    titles = [f"{format_bytes(found.choice.budget or 0)}: {found.choice.temperature}" for found in results]
    pairs = ([(epoch.teacher_temperature, epoch.student_temperature) for epoch in found.history] for found in results)
    return png(temperature_figure(dict(zip(titles, pairs, strict=True))))


def _description(
    config: SweepConfig, images: ImageSet, teacher: dict[str, Any], shared: Shared, all_bytes: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and tags of the parent run."""
    document = config.model_dump(mode="json", exclude={"resources"})
    params = {**document, "all_label_bytes": all_bytes, "image_bytes": images.image_bytes, **environment()}
    tags = {
        "lpqld.config": fingerprint(canonical_json(document)),
        "lpqld.images": images.fingerprint,
        "lpqld.validation": shared.validation.fingerprint,
        "lpqld.test": shared.test.fingerprint,
        "lpqld.teacher": teacher["fingerprint"],
    }
    return params, tags


class _Counter:
    """Counts results of a phase, and logs each as a child run."""

    def __init__(self, progress: Progress, tracker: Tracker) -> None:
        self._progress, self._tracker = progress, tracker
        self._phase, self._done, self._total = "", 0, 0

    def start(self, phase: str, total: int) -> None:
        """A new phase with `total` results to come."""
        self._phase, self._done, self._total = phase, 0, total
        self._progress.progress(phase, 0, total)

    def add(self, result: TrialResult) -> None:
        """One more result."""
        self._done += 1
        metrics: dict[str, float] = {
            "label_bytes": result.label_bytes,
            "final_val_accuracy": result.val_accuracy,
            "prune_ratio": result.prune_ratio,
            "seconds": result.seconds,
        }
        if result.test_accuracy is not None:
            metrics["test_accuracy"] = result.test_accuracy
        self._tracker.log_trial(
            f"{result.choice.trial_id}-seed{result.seed}",
            f"{self._phase} {result.choice.trial_id} seed {result.seed}",
            {**result.config, "budget": result.choice.budget, "seed": result.seed, "phase": self._phase},
            [vars(metrics) for metrics in result.history],
            metrics,
            tags={"lpqld.kind": result.choice.kind, "lpqld.stopped_early": str(not result.finished)},
        )
        self._progress.progress(self._phase, self._done, self._total)
