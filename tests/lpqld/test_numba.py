"""What is compiled and kept on disk is never older than the code that it was compiled from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lpqld._numba
from tests.conftest import command_environment

pytestmark = pytest.mark.integration


@pytest.fixture
def package(tmp_path) -> Path:
    """A package with a copy of `_numba`, and a room whose function calls one in a folder of that room."""
    package = tmp_path / "small"
    (package / "room" / "inner").mkdir(parents=True)
    for folder in (package, package / "room", package / "room" / "inner"):
        (folder / "__init__.py").write_text("")
    (package / "_numba.py").write_text(Path(lpqld._numba.__file__).read_text())
    (package / "room" / "outer.py").write_text(
        "from small._numba import compiled\nfrom small.room.inner.number import number\n\n\n"
        "@compiled\ndef next_number():\n    return number() + 1\n"
    )
    return package


def write_number(package: Path, number: int) -> None:
    (package / "room" / "inner" / "number.py").write_text(
        f"from small._numba import compiled\n\n\n@compiled\ndef number():\n    return {number}\n"
    )


def run(package: Path) -> tuple[int, int]:
    """What the outer function gives in a new process, and how many functions had to be compiled for it."""
    code = (
        "from small.room.outer import next_number\nprint(next_number(), sum(next_number.stats.cache_misses.values()))"
    )
    environment = {**command_environment(), "PYTHONPATH": os.fspath(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=1200
    )
    value, misses = map(int, done.stdout.split())
    return value, misses


def test_a_function_of_another_folder_of_the_room_is_compiled_again_when_it_changes(package):
    write_number(package, 1)
    assert run(package) == (2, 1)
    assert run(package) == (2, 0), "kept for the next process"
    write_number(package, 5)
    assert run(package) == (6, 1)
