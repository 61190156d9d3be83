"""Runs a study: experts, their labels, students of every case; what is finished is not repeated.

Every seed has a sample of images and an order of experts of its own, the same in all cases: what cases differ by is not
the luck of one sample. The validation images choose, wherever something is chosen; the test images are only told.
"""

from __future__ import annotations

from pathlib import Path

from lpqld.progress import Progress
from lpqld.training import Student
from sweeps.config import StudyConfig
from sweeps.jobs import open_evaluation
from sweeps.studies.expert_logits import ask_experts
from sweeps.studies.experts import experts_of, planned_experts
from sweeps.studies.label_sets import LabelSets
from sweeps.studies.results import CaseResult
from sweeps.studies.samples import SeedImages
from sweeps.studies.students import train_cases
from sweeps.studies.study import Study, StudyInputs

LABELS_FOLDER = "labels"


def run_study(
    study: Study,
    config: StudyConfig,
    root: Path,
    *,
    progress: Progress,
) -> list[CaseResult]:
    """Every case of a study on the connected Ray cluster, in the study's order.

    Args:
        study: what is asked.
        config: of the study.
        root: the local folder of all results; this study's is `studies/NAME` there.
        progress: told of what happens, and of how much of each phase is done.

    Raises:
        ConfigError: a setting does not fit the others or the data.
        DataError: images or experts cannot be read.
    """
    folder = root.absolute() / "studies"
    samples = [SeedImages.drawn(config, turn) for turn in range(config.seeds)]
    images = samples[0].largest
    evaluation = open_evaluation(config.eval, images)
    # Before experts are fitted, which takes hours.
    Student(config.student, images.num_classes, seed=0).check_input(images.size)
    cases = list(dict.fromkeys(study.cases(StudyInputs(config, *planned_experts(config.experts), images.num_classes))))
    experts = experts_of(config, images.class_names, evaluation, folder, progress)
    largest = [sample.largest for sample in samples]
    logits = ask_experts(experts, largest, evaluation.validation, folder / "experts-say", progress)
    progress.say(
        f"{study.name}: {len(cases)} cases of {config.seeds} students, experts of epochs {', '.join(map(str, experts))}"
    )
    label_sets = LabelSets(samples, experts, logits, folder / study.name / LABELS_FOLDER)
    measured = train_cases(
        label_sets.students(cases), len(cases) * config.seeds, config.student, evaluation, folder / "students", progress
    )
    return [CaseResult.of(case, label_sets.facts[case], measured[case]) for case in cases]
