"""Students of a study: labels are made when there is room for them, and what was trained is not trained again."""

import pytest

from lpqld.images import ImageSet
from lpqld.recipe import Recipe
from sweeps.data import Evaluation
from sweeps.study_cases import Case
from sweeps.study_labels import labels_of
from sweeps.study_students import StudyStudent, train_cases

RECIPE = Recipe(temperature="1", ca="off", epochs=1, batch_size=10)
SEEDS, CASES = 3, [Case(1, edit="hard"), Case(2, edit="hard"), Case(3, edit="hard")]


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
                labels = labels_of(case, ImageSet.open("digits:train", sample=(case.ipc, seed)), None)
                yield StudyStudent(case, seed, labels)

    def progress(finished: int, total: int) -> None:
        assert total == SEEDS * len(CASES)
        done[0] = finished

    total = SEEDS * len(CASES)
    found = train_cases(students(), total, RECIPE, evaluation, tmp_path, progress)
    assert done[0] == total
    assert max(ahead) == 5, "two for each of two CPUs, and the next"
    assert {case: len(values) for case, values in found.items()} == dict.fromkeys(CASES, SEEDS)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-*.json")}
    assert len(files) == total
    next(iter(files)).unlink()
    again = train_cases(students(), total, RECIPE, evaluation, tmp_path, progress)

    def accuracies(values):
        return {case: [each["accuracy"] for each in some] for case, some in values.items()}

    assert accuracies(again) == accuracies(found)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-*.json")}
    assert sum(kept[path] != time for path, time in files.items()) == 1
