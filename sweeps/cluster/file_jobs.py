"""Jobs that make numbered files, each alone, on any worker; what is there already is not made again.

A worker that dies is started again by Ray, elsewhere where its node is gone, and makes its file once more. Of two jobs
in one folder, each makes the files that it does not find; where both write one, the later writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from lpqld.progress import Progress
from lpqld.storage import Location, file_sizes
from sweeps.cluster.connection import use_assigned_resources
from sweeps.cluster.retries import begin, retried, write_retried
from sweeps.cluster.shard_pool import Answer, pool_for, run_shards

Loaded = TypeVar("Loaded")

_READERS = 8  # threads that look at what is there


def _no_answer(_index: int, _path: Location) -> Answer:
    return {}


@dataclass(frozen=True)
class NumberedFiles:
    """The files that a job is to make in a folder that every node sees.

    Attributes:
        folder: where they are, a path or a URI.
        total: how many there are to be.
        name: the name of file `index`, from 0.
        describe: what is told of file `index`, which is at a path; it may raise DataError, where the file is damaged
            or another job's. Workers get it too, so it must be possible to pickle.
    """

    folder: Location
    total: int
    name: Callable[[int], str]
    describe: Callable[[int, Location], Answer] = _no_answer

    def path(self, index: int) -> Location:
        """Where file `index` is, or is to be."""
        return self.folder / self.name(index)

    def present(self) -> list[int]:
        """The numbers of the files that are there."""
        names = file_sizes(self.folder)
        return [index for index in range(self.total) if self.name(index) in names]


class FileMaker(Protocol[Loaded]):
    """Makes the content of numbered files: a value that every worker gets, what is large in it as Ray references.

    Whoever makes a file, and however often, its bytes are the same.
    """

    doing: ClassVar[str]  # for messages, such as "labeling"

    def load(self, device: torch.device) -> Loaded:
        """What a worker needs for all of its files: called once in each, before the first file that it makes."""
        ...

    def make(self, loaded: Loaded, index: int) -> tuple[bytes, Answer]:
        """The content of file `index`, and what is told of it, as JSON holds it."""
        ...


def make_files(
    files: NumberedFiles,
    maker_for: Callable[[list[int]], FileMaker[Any]],
    *,
    phase: str,
    workers: int | None,
    progress: Progress,
    on_answer: Callable[[int, Answer], None] = lambda index, answer: None,
) -> dict[int, Answer]:
    """Make the files that are missing, on the connected Ray cluster.

    Args:
        files: what is to be there in the end.
        maker_for: called in this process with the numbers of the missing files, unless there are none.
        phase: of `progress`, which hears of files done and files in all.
        workers: at work at once; default one per GPU, or one per CPU where there is no GPU.
        progress: told of every file.
        on_answer: called with what is told of each file that is made, as it is done.

    Returns:
        What is told of every file, also of those that were there.

    Raises:
        LpqldError: a file failed again and again; the message names it.
    """
    present = files.present()
    with ThreadPoolExecutor(_READERS) as pool:
        described = pool.map(lambda index: files.describe(index, files.path(index)), present)
        answers = dict(zip(present, described, strict=True))
    progress.progress(phase, len(answers), files.total)
    missing = [index for index in range(files.total) if index not in answers]
    if not missing:
        return answers
    arguments = {"files": replace(files, folder=files.folder.absolute()), "maker": maker_for(missing)}
    for index, answer in run_shards(_FileWorker, arguments, missing, **pool_for(len(missing), workers)):
        answers[index] = answer
        on_answer(index, answer)
        progress.progress(phase, len(answers), files.total)
    return answers


class _FileWorker(Generic[Loaded]):
    """An actor that puts files in place, whole or not at all."""

    def __init__(self, files: NumberedFiles, maker: FileMaker[Loaded], tries: Any) -> None:
        self._files = files
        self._maker = maker
        self._tries = tries
        self._loaded: Loaded | None = None

    def __call__(self, index: int) -> Answer:
        path = self._files.path(index)
        if path.exists():
            return retried(lambda: self._files.describe(index, path), f"reading {path.name}")
        # Counted before anything that may kill this process; also loading may.
        begin(self._tries, index, str(path))
        content, answer = retried(lambda: self._make(index), f"{self._maker.doing} for {path.name}")
        write_retried(path, content)
        return answer

    def _make(self, index: int) -> tuple[bytes, Answer]:
        if self._loaded is None:
            self._loaded = self._maker.load(use_assigned_resources(cpus=1))
        return self._maker.make(self._loaded, index)
