"""Jobs whose result is a file for each of many numbers: what is there already is not made again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import ray

from lpqld.location import Location
from sweeps.retries import begin, retried, write_retried
from sweeps.shard_pool import Answer, pool_for, run_shards

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
    def make(self, index: int) -> bytes:
        """Its content."""

    def __call__(self, index: int) -> Answer:
        """Make file `index` unless it is there."""
        path = self._folder / self.name(index)
        if not path.exists():
            begin(self._tries, index, str(path))
            content = retried(lambda: self.make(index), f"{self.doing} for {path.name}")
            write_retried(path, content)
        return {}


def make_files(
    maker: type[FileMaker],
    arguments: dict[str, Any],
    folder: Location,
    pending: list[int],
    total: int,
    phase: str,
    workers: int | None,
    progress: Progress,
) -> None:
    """Make the files `pending` of `total` in `folder`, on the connected Ray cluster.

    Args:
        arguments: of the maker, but for the folder; `teacher` and `images` go through the object store.
        progress: called with `phase`, files done and files in all.
    """
    done = total - len(pending)
    progress(phase, done, total)
    if not pending:
        return
    shared = {name: ray.put(arguments[name]) for name in ("teacher", "images")}
    everything = {**arguments, **shared, "folder": folder}
    for _ in run_shards(maker, everything, pending, **pool_for(len(pending), workers)):
        done += 1
        progress(phase, done, total)
