"""Makes the label set of every case and seed, and writes it to the study's folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from lpqld.labels import UNKNOWN_TEACHER, TeacherRef
from lpqld.models import load_teachers
from sweeps.jobs import Trajectory
from sweeps.studies.case import Case
from sweeps.studies.expert_logits import ExpertLogits
from sweeps.studies.experts import in_turn
from sweeps.studies.results import LabelFacts
from sweeps.studies.samples import SeedImages
from sweeps.studies.students import StudyStudent


class LabelSets:
    """The label sets of a study, made one after another as students ask for them.

    Args:
        samples: the images of each seed.
        experts: their checkpoints by epoch.
        logits: what these say of the largest sample of each seed, by epoch.
        folder: where the label sets are kept, a folder each.

    Attributes:
        facts: of the label sets that were made, for each case in the order of seeds.
    """

    def __init__(
        self,
        samples: Sequence[SeedImages],
        experts: Trajectory,
        logits: dict[int, list[ExpertLogits]],
        folder: Path,
    ) -> None:
        self.facts: dict[Case, list[LabelFacts]] = defaultdict(list)
        self._samples, self._experts, self._logits, self._folder = samples, experts, logits, folder
        self._reference = cache(lambda paths: teacher_reference(paths, samples[0].largest.class_names))

    def students(self, cases: Sequence[Case]) -> Iterator[StudyStudent]:
        """A student to be trained for every case and seed, its labels written before it is handed out."""
        for case in cases:
            for turn in range(len(self._samples)):
                yield self._student(case, turn)

    def _student(self, case: Case, turn: int) -> StudyStudent:
        sample, experts = self._samples[turn], self._experts_of(case, turn)
        logits = sample.mean_logits(case.ipc, [expert.logits[turn] for expert in experts])
        labels = case.labels(sample.by_ipc[case.ipc], logits, self._teacher_of(case, turn))
        folder = self._folder / f"{case.case_id}-{labels.digest[:8]}"
        labels.encoded.write(folder)
        self.facts[case].append(LabelFacts.of(labels, experts, folder))
        return StudyStudent(case, turn + 1, labels)

    def _experts_of(self, case: Case, turn: int) -> list[ExpertLogits]:
        return [] if case.epoch is None else in_turn(self._logits[case.epoch], case.members, turn)

    def _teacher_of(self, case: Case, turn: int) -> TeacherRef:
        if case.epoch is None:
            return UNKNOWN_TEACHER
        reference: TeacherRef = self._reference(tuple(in_turn(self._experts[case.epoch], case.members, turn)))
        return reference


def teacher_reference(paths: Sequence[Path], class_names: tuple[str, ...]) -> TeacherRef:
    """The experts, or their ensemble, as label sets name who made them."""
    teacher = load_teachers(paths, image_class_names=class_names)
    return TeacherRef.of(teacher.spec, teacher.fingerprint)
