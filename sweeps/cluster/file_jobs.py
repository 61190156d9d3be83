"""Jobs whose result is a file for each of many numbers: what is there already is not made again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from lpqld.storage import Location
from sweeps.cluster.retries import begin, retried, write_retried
from sweeps.cluster.shard_pool import Answer, pool_for, run_shards

Progress = Callable[[str, int, int], None]


class FileMaker(ABC):
    """An actor that makes files in a folder, whole or not at all."""

    doing: ClassVar[str]

    def __init__(self, folder: Location, tries: Any) -> None:
        self._folder, self._tries = folder, tries

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of file `index`."""

    @abstractmethod
    def make(self, index: int) -> tuple[bytes, Answer]:
        """Its content, and what is told of it, as JSON holds it."""

    def __call__(self, index: int) -> Answer:
        """Make file `index` unless it is there: the answer is then empty."""
        path = self._folder / self.name(index)
        if path.exists():
            return {}
        begin(self._tries, index, str(path))
        content, answer = retried(lambda: self.make(index), f"{self.doing} for {path.name}")
        write_retried(path, content)
        return answer


def make_files(
    maker: type[FileMaker],
    arguments: dict[str, Any],
    folder: Location,
    pending: list[int],
    total: int,
    phase: str,
    workers: int | None,
    progress: Progress,
    on_answer: Callable[[int, Answer], None] = lambda index, answer: None,
) -> None:
    """Make the files `pending` of `total` in `folder`, on the connected Ray cluster.

    Args:
        arguments: of the maker, but for the folder.
        progress: called with `phase`, files done and files in all.
        on_answer: called with what is told of each file as it is done.
    """
    done = total - len(pending)
    progress(phase, done, total)
    if not pending:
        return
    everything = {**arguments, "folder": folder}
    for index, answer in run_shards(maker, everything, pending, **pool_for(len(pending), workers)):
        done += 1
        on_answer(index, answer)
        progress(phase, done, total)
