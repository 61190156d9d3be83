"""Runs a study: experts, their labels, students of every case; a record in MLflow; what is finished is not repeated.

Every seed has a sample of images and an order of experts of its own, the same in all cases: what cases differ by is not
the luck of one sample. The validation images choose, wherever something is chosen; the test images are only told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lpqld.images import ImageSet
from lpqld.labels import UNKNOWN_TEACHER, TeacherRef, entropy
from lpqld.models import epochs_to_keep, load_teachers
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint
from lpqld.training import Student
from sweeps.config import ExpertsConfig, StudyConfig
from sweeps.jobs import Evaluation, TeacherFit, Trajectory, fit_experts, open_evaluation, seed_path, trajectory
from sweeps.report import Accuracy
from sweeps.studies.cases import STUDIES, Case
from sweeps.studies.labels import CaseLabels, Said, labels_of, said_by_all
from sweeps.studies.students import StudyStudent, train_cases

_T = TypeVar("_T")
LABELS_FOLDER = "labels"


@dataclass(frozen=True)
class Finding:
    """What a case gave; accuracies are fractions, over seeds, and all else that samples differ in is their mean.

    Attributes:
        case: what was done.
        accuracy, val_accuracy: of students on the test and validation images.
        class_accuracy: on the test images of the removed class, where one is.
        label_bytes, image_bytes: on disk.
        num_classes: C.
        entropy: of the labels, their mean in nats.
        expert_accuracy: of the experts on the validation images, their mean; None without experts.
        labels: the label sets' folders, one a seed.
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
    labels: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "case": self.case.params, "labels": list(self.labels)}


@dataclass(frozen=True)
class _Facts:
    """Of the labels of a case and a seed."""

    label_bytes: int
    image_bytes: int
    num_classes: int
    entropy: float
    expert_accuracy: float | None
    folder: Path


def run_study(
    name: str,
    config: StudyConfig,
    root: Path,
    *,
    progress: Progress,
) -> list[Finding]:
    """Every case of a study on the connected Ray cluster, in the study's order.

    Args:
        name: of `STUDIES`.
        config: of the study.
        root: the local folder of all results; this study's is `studies/NAME` there.
        progress: told of what happens, and of how much of each phase is done.

    Raises:
        ConfigError: a setting does not fit the others or the data.
        DataError: images or experts cannot be read.
    """
    folder = root.absolute() / "studies" / name
    samples = [{ipc: _sample(config, ipc, turn) for ipc in set(config.ipc)} for turn in range(config.seeds)]
    largest = [sample[max(sample)] for sample in samples]
    evaluation = open_evaluation(config.eval, largest[0])
    # Before experts are fitted, which takes hours.
    Student(config.student, largest[0].num_classes, seed=0).check_input(largest[0].size)
    epochs, num_experts = planned_experts(config.experts)
    cases = list(dict.fromkeys(STUDIES[name].cases(config, epochs, num_experts, largest[0].num_classes)))
    experts = experts_of(config, largest[0].class_names, evaluation, folder.parent, progress)
    said = said_by_all(experts, largest, evaluation.validation, folder.parent / "experts-say", progress)
    progress.say(
        f"{name}: {len(cases)} cases of {config.seeds} students, experts of epochs {', '.join(map(str, experts))}"
    )
    facts: dict[Case, list[_Facts]] = defaultdict(list)
    reference = cache(lambda paths: _reference(paths, largest[0].class_names))

    def students() -> Iterator[StudyStudent]:
        for case in cases:
            for turn, sample in enumerate(samples):
                experts_said, teacher = list[Said](), UNKNOWN_TEACHER
                if case.epoch is not None:
                    experts_said = _in_turn(said[case.epoch], case.members, turn)
                    teacher = reference(tuple(_in_turn(experts[case.epoch], case.members, turn)))
                logits = [expert.logits[turn] for expert in experts_said]
                labels = _labels(case, sample[case.ipc], largest[turn], logits, teacher)
                place = folder / LABELS_FOLDER / f"{case.case_id}-{labels.digest[:8]}"
                labels.encoded.write(place)
                facts[case].append(_facts(labels, experts_said, place))
                yield StudyStudent(case, turn + 1, labels)

    values = train_cases(
        students(), len(cases) * config.seeds, config.student, evaluation, folder.parent / "students", progress
    )
    return [_finding(case, facts[case], values[case]) for case in cases]


def _sample(config: StudyConfig, ipc: int, turn: int) -> ImageSet:
    return ImageSet.open(config.images, size=config.size, sample=(ipc, config.seed + turn))


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
    fit = TeacherFit(wanted.architecture, wanted.epochs, wanted.lr, wanted.batch_size, kept)
    digest = fingerprint(canonical_json([asdict(fit), images.fingerprint]))[:12]
    path = folder / "experts" / f"{wanted.architecture}-{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = {seed: seed_path(path, seed) for seed in range(config.seed, config.seed + wanted.seeds)}
    fit_experts(images, evaluation.validation, paths, fit, progress=progress, phase="experts")
    return trajectory(list(paths.values()))


def _in_turn(experts: Sequence[_T], members: int, turn: int) -> list[_T]:
    """So many experts from the one whose turn it is."""
    return [experts[(turn + member) % len(experts)] for member in range(members)]


def _reference(paths: Sequence[Path], class_names: tuple[str, ...]) -> TeacherRef:
    """The experts, or their ensemble, as label sets name who made them."""
    teacher = load_teachers(paths, image_class_names=class_names)
    return TeacherRef.of(teacher.spec, teacher.fingerprint)


def _labels(
    case: Case,
    images: ImageSet,
    largest: ImageSet,
    logits: Sequence[NDArray[np.float32]],
    teacher: TeacherRef,
) -> CaseLabels:
    """Of a sample; `logits`: what each expert says of that of the largest number of images."""
    if not logits:
        return labels_of(case, images, None)
    rows = np.searchsorted(largest.ids, images.ids, sorter=(order := np.argsort(largest.ids)))
    mean = np.stack([expert[order[rows]] for expert in logits]).mean(axis=0, dtype=np.float64)
    return labels_of(case, images, np.asarray(mean, dtype=np.float32), teacher)


def _facts(labels: CaseLabels, experts: Sequence[Said], folder: Path) -> _Facts:
    spec = labels.encoded.spec
    return _Facts(
        label_bytes=labels.encoded.num_bytes,
        image_bytes=spec.images.image_bytes,
        num_classes=spec.num_classes,
        entropy=entropy(labels.decoded),
        expert_accuracy=float(np.mean([expert.accuracy for expert in experts])) if experts else None,
        folder=folder,
    )


def _finding(case: Case, facts: Sequence[_Facts], values: Sequence[dict[str, float]]) -> Finding:
    def over_seeds(key: str) -> Accuracy:
        return Accuracy.of([value[key] for value in values])

    experts = [each.expert_accuracy for each in facts if each.expert_accuracy is not None]
    return Finding(
        case=case,
        accuracy=over_seeds("accuracy"),
        val_accuracy=over_seeds("val_accuracy"),
        class_accuracy=over_seeds("class_accuracy") if case.removed is not None else None,
        label_bytes=round(float(np.mean([each.label_bytes for each in facts]))),
        image_bytes=round(float(np.mean([each.image_bytes for each in facts]))),
        num_classes=facts[0].num_classes,
        entropy=float(np.mean([each.entropy for each in facts])),
        expert_accuracy=float(np.mean(experts)) if experts else None,
        labels=tuple(str(each.folder) for each in facts),
    )
