"""Runs a study: experts, their labels, students of every case; a record in MLflow; what is finished is not repeated.

The validation images choose, wherever something is chosen; the test images are only told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from lpqld.dataset import ViewDataset
from lpqld.ensemble import load_teachers
from lpqld.evaluation import accuracy
from lpqld.fidelity import entropy
from lpqld.fit import epochs_to_keep
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.recipe import Recipe
from lpqld.references import UNKNOWN_TEACHER, TeacherRef
from lpqld.store import canonical_json, fingerprint, kept_json, write_atomically
from lpqld.student import Student
from lpqld.training import train
from sweeps.cluster import num_gpus, result_of, use_assigned_resources
from sweeps.data import Evaluation, open_evaluation
from sweeps.experts import Fit, Trajectory, fit_experts, seed_path, trajectory
from sweeps.result import Accuracy
from sweeps.study_cases import STUDIES, Case
from sweeps.study_config import ExpertsConfig, StudyConfig
from sweeps.study_labels import CaseLabels, Said, labels_of, said_by_all

Progress = Callable[[str, int, int], None]
LABELS_FOLDER = "labels"


@dataclass(frozen=True)
class Finding:
    """What a case gave; accuracies are fractions over seeds.

    Attributes:
        case: what was done.
        accuracy, val_accuracy: of students on the test and validation images.
        class_accuracy: on the test images of the removed class, where one is.
        label_bytes, image_bytes: on disk.
        num_classes: C.
        entropy: of the labels, their mean in nats.
        expert_accuracy: of the experts on the validation images, their mean; None without experts.
        labels: the label set's folder.
    """

    case: Case
    accuracy: Accuracy
    val_accuracy: Accuracy
    class_accuracy: Accuracy | None
    label_bytes: int
    image_bytes: int
    num_classes: int
    entropy: float
    expert_accuracy: float | None
    labels: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "case": self.case.params}


def run_study(
    name: str,
    config: StudyConfig,
    root: Path,
    *,
    progress: Progress,
    say: Callable[[str], None],
) -> list[Finding]:
    """Every case of a study on the connected Ray cluster, in the study's order.

    Args:
        name: of `STUDIES`.
        config: of the study.
        root: the local folder of all results; this study's is `studies/NAME` there.
        progress: called with the phase, what is done and what there is.
        say: called with a line on what happens.

    Raises:
        ConfigError: a setting does not fit the others or the data.
        DataError: images or experts cannot be read.
    """
    folder = root.absolute() / "studies" / name
    images = {ipc: _sample(config, ipc) for ipc in sorted(set(config.ipc))}
    largest = images[max(images)]
    evaluation = open_evaluation(config.eval, largest)
    # Before experts are fitted, which takes hours.
    Student(config.student, largest.num_classes, seed=0).check_input(largest.size)
    epochs, num_experts = planned_experts(config.experts)
    cases = list(dict.fromkeys(STUDIES[name].cases(config, epochs, num_experts, largest.num_classes)))
    experts = experts_of(config, largest.class_names, evaluation, folder.parent, progress)
    said = said_by_all(
        experts, largest, evaluation.validation, folder.parent / "experts-say",
        lambda done, total: progress("experts' labels", done, total),
    )  # fmt: skip
    say(f"{name}: {len(cases)} cases of {config.seeds} students, experts of epochs {', '.join(map(str, experts))}")
    teachers: dict[tuple[int | None, int], TeacherRef] = {
        (case.epoch, case.members): _teacher(experts[case.epoch][: case.members], largest.class_names)
        for case in cases
        if case.epoch is not None
    }
    made = {
        case: _made(case, images[case.ipc], largest, said, teachers.get((case.epoch, case.members), UNKNOWN_TEACHER))
        for case in cases
    }
    for case, labels in made.items():
        labels.encoded.write(_labels_folder(folder, case, labels))
    values = _train(made, config, evaluation, folder.parent / "students", progress)
    return [_finding(case, made[case], values[case], said, folder) for case in cases]


def planned_experts(wanted: ExpertsConfig) -> tuple[tuple[int, ...], int]:
    """The epochs whose checkpoints there are, or will be, and of how many experts.

    Raises:
        ConfigError: those that are given are not there.
    """
    if wanted.source is None:
        return epochs_to_keep(wanted.keep, wanted.epochs), wanted.seeds
    given = trajectory(wanted.source)
    return tuple(given), len(next(iter(given.values())))


def experts_of(
    config: StudyConfig, class_names: tuple[str, ...], evaluation: Evaluation, folder: Path, progress: Progress
) -> Trajectory:
    """The experts that are given, or fitted here once for all studies."""
    wanted = config.experts
    if wanted.source is not None:
        return trajectory(wanted.source)
    images = ImageSet.open(wanted.images or config.images, size=config.size, class_names=class_names)
    kept = epochs_to_keep(wanted.keep, wanted.epochs)
    fit = Fit(wanted.architecture, wanted.epochs, wanted.lr, wanted.batch_size, kept)
    digest = fingerprint(canonical_json([asdict(fit), images.fingerprint]))[:12]
    path = folder / "experts" / f"{wanted.architecture}-{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = {seed: seed_path(path, seed) for seed in range(config.seed, config.seed + wanted.seeds)}
    fit_experts(
        images, evaluation.validation, paths, fit, progress=lambda done, total: progress("experts", done, total)
    )
    return trajectory(list(paths.values()))


def _sample(config: StudyConfig, ipc: int) -> ImageSet:
    return ImageSet.open(config.images, size=config.size, sample=(ipc, config.seed))


def _teacher(paths: Sequence[Path], class_names: tuple[str, ...]) -> TeacherRef:
    """The experts, or their ensemble, as label sets name who made them."""
    teacher = load_teachers(paths, image_class_names=class_names)
    return TeacherRef.of(teacher.spec, teacher.fingerprint)


def _made(
    case: Case, images: ImageSet, largest: ImageSet, said: dict[int, list[Said]], teacher: TeacherRef
) -> CaseLabels:
    if case.epoch is None:
        return labels_of(case, images, None)
    rows = np.searchsorted(largest.ids, images.ids, sorter=(order := np.argsort(largest.ids)))
    experts = said[case.epoch][: case.members]
    logits = np.stack([expert.logits[order[rows]] for expert in experts]).mean(axis=0, dtype=np.float64)
    return labels_of(case, images, np.asarray(logits, dtype=np.float32), teacher)


def _digest(labels: CaseLabels) -> str:
    """Of all bytes of a label set."""
    return fingerprint(labels.encoded.manifest.to_bytes())


def _labels_folder(folder: Path, case: Case, labels: CaseLabels) -> Path:
    """Another configuration's labels of an equal case lie elsewhere."""
    return folder / LABELS_FOLDER / f"{case.case_id}-{_digest(labels)[:8]}"


def _train(
    made: dict[Case, CaseLabels], config: StudyConfig, evaluation: Evaluation, folder: Path, progress: Progress
) -> dict[Case, list[dict[str, float]]]:
    """Students of every case and seed, as many at once as the cluster has room for; those in `folder` are read.

    Studies have cases in common: what one has trained, another finds there.
    """
    shared = ray.put(evaluation.test), ray.put(evaluation.validation)
    prints = [evaluation.test.fingerprint, evaluation.validation.fingerprint, config.student.to_json()]
    task = ray.remote(_student).options(num_cpus=1, num_gpus=1 if num_gpus() else 0, max_retries=2)
    values: dict[Case, dict[int, dict[str, float]]] = {case: {} for case in made}
    running: dict[Any, tuple[Case, int, Path]] = {}
    for case, labels in made.items():
        identity = [_digest(labels), labels.images.fingerprint, *prints, case.edit, case.removed]
        place = folder / fingerprint(canonical_json(identity))[:16]
        data = None
        for seed in range(1, config.seeds + 1):
            path = place / f"seed-{seed}.json"
            if (known := _kept(path)) is not None:
                values[case][seed] = known
                continue
            data = data or (ray.put(labels.images), ray.put(labels.decoded), ray.put(labels.weights))
            checkpoint = place / f"seed-{seed}.checkpoint"
            reference = task.remote(*data, *shared, config.student, seed, case.removed, checkpoint)
            running[reference] = case, seed, path
    total = len(made) * config.seeds
    progress("students", total - len(running), total)
    while running:
        (done,), _ = ray.wait(list(running))
        case, seed, path = running.pop(done)
        values[case][seed] = result_of(done)
        write_atomically(path, json.dumps(values[case][seed]).encode())
        progress("students", total - len(running), total)
    return {case: [found[seed] for seed in sorted(found)] for case, found in values.items()}


def _kept(path: Path) -> dict[str, float] | None:
    """What a student had; None where it is not there, or not whole: it is trained again."""
    try:
        found: dict[str, float] = kept_json(path) or {}
        return {**found, "accuracy": float(found["accuracy"]), "val_accuracy": float(found["val_accuracy"])}
    except (ValueError, KeyError, TypeError):
        return None


def _student(
    images: ImageSet,
    labels: Labels,
    weights: Any,
    test: ImageSet,
    validation: ImageSet,
    recipe: Recipe,
    seed: int,
    removed: int | None,
    checkpoint: Path,
) -> dict[str, float]:
    start = time.perf_counter()
    device = use_assigned_resources(cpus=1)
    network = Student(recipe, labels.spec.num_classes, seed)
    data = ViewDataset.of_recipe(images, labels, recipe, device, seed=seed, weights=weights)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    for _ in train(network, data, recipe, seed=seed, checkpoint=checkpoint):
        pass
    found = {"accuracy": accuracy(network, test), "val_accuracy": accuracy(network, validation)}
    if removed is not None:
        found["class_accuracy"] = accuracy(network, test.take(np.flatnonzero(test.labels.numpy() == removed)))
    return {**found, "seconds": time.perf_counter() - start}


def _finding(
    case: Case, made: CaseLabels, values: list[dict[str, float]], said: dict[int, list[Said]], folder: Path
) -> Finding:
    spec = made.encoded.spec
    experts = [] if case.epoch is None else said[case.epoch][: case.members]

    def over_seeds(key: str) -> Accuracy:
        return Accuracy.of([value[key] for value in values])

    return Finding(
        case=case,
        accuracy=over_seeds("accuracy"),
        val_accuracy=over_seeds("val_accuracy"),
        class_accuracy=over_seeds("class_accuracy") if case.removed is not None else None,
        label_bytes=made.encoded.num_bytes,
        image_bytes=spec.images.image_bytes,
        num_classes=spec.num_classes,
        entropy=entropy(made.decoded),
        expert_accuracy=float(np.mean([expert.accuracy for expert in experts])) if experts else None,
        labels=str(_labels_folder(folder, case, made)),
    )
