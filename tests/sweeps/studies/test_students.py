"""Students of a study: labels are made when there is room for them, and what was trained is not trained again."""

from dataclasses import replace

import numpy as np
import pytest

from lpqld.images.image_set import ImageSet
from lpqld.progress import SILENT
from lpqld.training.recipe import Recipe
from sweeps.jobs.inputs import Evaluation
from sweeps.studies.case import Case
from sweeps.studies.catalogue.swap import Swapped, SwappedTop
from sweeps.studies.catalogue.zero_shot import Control
from sweeps.studies.edits import Hard
from sweeps.studies.students import StudyStudent, train_cases
from tests.heard import Heard

RECIPE = Recipe(temperature="1", ca="off", epochs=1, batch_size=10)
SEEDS, CASES = 3, [Case(1, edit=Hard()), Case(2, edit=Hard()), Case(3, edit=Hard())]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Evaluation(ImageSet.open("digits:val", sample=(2, 0)), ImageSet.open("digits:test", sample=(2, 0)))


def test_labels_wait_for_room_and_students_are_trained_once(ray_cluster, evaluation, tmp_path):
    asked, done, ahead = list[tuple[Case, int]](), [0], list[int]()

    def students():
        for case in CASES:
            for seed in range(1, SEEDS + 1):
                asked.append((case, seed))
                ahead.append(len(asked) - done[0])
                labels = case.labels(ImageSet.open("digits:train", sample=(case.ipc, seed)), None)
                yield StudyStudent(case, seed, labels)

    def note(_phase: str, finished: int, total: int) -> None:
        assert total == SEEDS * len(CASES)
        done[0] = finished

    total = SEEDS * len(CASES)
    found = train_cases(students(), total, RECIPE, evaluation, tmp_path, Heard(note))
    assert done[0] == total
    assert max(ahead) == 5, "two for each of two CPUs, and the next"
    assert {case: len(values) for case, values in found.items()} == dict.fromkeys(CASES, SEEDS)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-*.json")}
    assert len(files) == total
    next(iter(files)).unlink()
    again = train_cases(students(), total, RECIPE, evaluation, tmp_path, Heard(note))

    def accuracies(values):
        return {case: [each["accuracy"] for each in some] for case, some in values.items()}

    assert accuracies(again) == accuracies(found)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-*.json")}
    assert sum(kept[path] != time for path, time in files.items()) == 1


def test_cases_of_the_same_labels_share_their_student(ray_cluster, evaluation, tmp_path):
    images = ImageSet.open("digits:train", sample=(1, 1))
    logits = np.random.default_rng(0).normal(size=(images.num_images, images.num_classes)).astype(np.float32)
    cases = [Case(1, 1, edit=Swapped(1)), Case(1, 1, edit=SwappedTop(1)),
             Case(1, 1, edit=SwappedTop(2))]  # fmt: skip
    students = [StudyStudent(case, 1, case.labels(images, logits)) for case in cases]
    told = list[int]()
    found = train_cases(students, 3, RECIPE, evaluation, tmp_path, Heard(lambda phase, done, total: told.append(done)))
    assert told[-1] == 3
    assert found[cases[0]] == found[cases[1]] != found[cases[2]]
    assert len(list(tmp_path.rglob("seed-*.json"))) == 2


def test_weights_and_a_removed_class_make_another_student(ray_cluster, evaluation, tmp_path):
    images = ImageSet.open("digits:train", sample=(1, 1))
    case = Case(1, edit=Hard())
    plain = case.labels(images, None)
    weighted = replace(plain, weights=np.linspace(0, 1, images.num_images))
    removed = replace(case, edit=Control(3))
    students = [StudyStudent(case, 1, plain), StudyStudent(replace(case, members=2), 1, weighted),
                StudyStudent(removed, 1, plain)]  # fmt: skip
    found = train_cases(students, 3, RECIPE, evaluation, tmp_path, SILENT)
    assert len(list(tmp_path.rglob("seed-*.json"))) == 3
    assert "class_accuracy" in found[removed][0]
