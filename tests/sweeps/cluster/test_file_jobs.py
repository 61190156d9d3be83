"""Files that are made on Ray, one by one: what is there stays, what is missing is made; and tasks as they end."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import ray

from lpqld.errors import DataError
from lpqld.progress import SILENT
from sweeps.cluster.file_jobs import NumberedFiles, make_files
from sweeps.cluster.task_results import as_completed
from tests.heard import Heard


def name(index: int) -> str:
    return f"square-{index}"


def describe(index: int, path: Path) -> dict:
    if path.read_bytes() != str(index**2).encode():
        raise DataError(f"{path}: no square of {index}")
    return {"there": index}


@dataclass(frozen=True)
class Squares:
    """Makes squares of numbers that lie in the object store; says how often its worker loaded them before."""

    doing: ClassVar[str] = "squaring"

    numbers: object

    def load(self, device):
        return {"numbers": ray.get(self.numbers), "made": 0}

    def make(self, loaded, index):
        loaded["made"] += 1
        return str(loaded["numbers"][index] ** 2).encode(), {"turn": loaded["made"], "device": "cpu"}


def made(folder: Path, asked: list, **options) -> dict:
    def maker_for(missing):
        asked.append(missing)
        return Squares(ray.put(list(range(5))))

    fixed = {"phase": "squares", "workers": 1, "progress": SILENT}
    return make_files(NumberedFiles(folder, 5, name, describe), maker_for, **{**fixed, **options})


@pytest.mark.usefixtures("ray_cluster")
class TestFiles:
    def test_what_is_missing_is_made_and_each_is_told_of(self, tmp_path):
        asked, answers, heard = [], {}, Heard()
        (tmp_path / name(3)).write_bytes(b"9")
        told = made(tmp_path, asked, progress=heard, on_answer=answers.__setitem__)
        assert asked == [[0, 1, 2, 4]]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            name(index): str(index**2).encode() for index in range(5)
        }
        assert told == {3: {"there": 3}, **answers}
        assert sorted(answer["turn"] for answer in answers.values()) == [1, 2, 3, 4], "loaded once"
        assert heard.counts == [("squares", done, 5) for done in range(1, 6)]

    def test_where_nothing_is_missing_nothing_is_loaded(self, tmp_path):
        asked, heard = [], Heard()
        for index in range(5):
            (tmp_path / name(index)).write_bytes(str(index**2).encode())
        assert made(tmp_path, asked, progress=heard) == {index: {"there": index} for index in range(5)}
        assert asked == []
        assert heard.counts == [("squares", 5, 5)]

    def test_a_file_that_is_there_and_wrong_is_named_before_any_is_made(self, tmp_path):
        asked = []
        (tmp_path / name(2)).write_bytes(b"5")
        with pytest.raises(DataError, match=r"square-2: no square of 2"):
            made(tmp_path, asked)
        assert asked == []


def test_tasks_come_as_they_end_and_their_errors_as_themselves(ray_cluster):
    @ray.remote(max_retries=0)
    def answer(index: int) -> int:
        if index == 2:
            raise DataError("task 2 failed")
        return index**2

    tasks = {answer.remote(index): index for index in (0, 1, 3)}
    assert {tasks[task]: value for task, value in as_completed(tasks)} == {0: 0, 1: 1, 3: 9}
    with pytest.raises(DataError, match="task 2 failed"):
        list(as_completed([answer.remote(2)]))
    assert list(as_completed([])) == []
