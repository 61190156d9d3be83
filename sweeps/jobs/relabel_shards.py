"""The relabel job: which shards are missing, who makes them, and the manifest at the end.

A worker that dies is started again by Ray, elsewhere where its node is gone, and does its shard once more. Of two jobs
on one folder, each does the shards that it does not find; where both write one, the later writes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageMemory, ImageSet
from lpqld.labels import MANIFEST_FILE, Labeler, LabelSet, LabelSpec, Manifest, Shard, check_header, shard_file
from lpqld.models import Teacher
from lpqld.storage import Location, RemotePath, file_sizes, location, sweep_temporary_files
from sweeps.cluster import Answer, begin, claim, pool_for, retried, run_shards, use_assigned_resources, write_retried

_JOB_FILE = ".relabel.json"

Progress = Callable[[int, int], None]


class _ShardWriter:
    """An actor: a teacher on its device that labels and writes the shards it is given."""

    def __init__(
        self, spec: LabelSpec, teacher: Any, images: Any, folder: Location, memory: ImageMemory | None, tries: Any
    ) -> None:
        self._spec, self._folder, self._memory, self._tries = spec, folder, memory, tries
        self._data = (teacher, images)
        self._labeler: Labeler | None = None

    def __call__(self, index: int) -> Answer:
        answer = self._finish(index).to_json()
        return answer if self._labeler is None else {**answer, "images": str(self._labeler.bank)}

    def _finish(self, index: int) -> Shard:
        name = shard_file(index)
        if (self._folder / name).exists():
            return retried(lambda: _describe(self._folder, self._spec, index), f"reading {name}")
        # Counted before anything that may kill this process; also loading the teacher may.
        begin(self._tries, index, str(self._folder / name))
        content = retried(lambda: self._label(index), f"labeling for {name}")
        write_retried(self._folder / name, content)
        return Shard.of(content)

    def _label(self, index: int) -> bytes:
        if self._labeler is None:
            device = use_assigned_resources(cpus=1)
            teacher, images = ray.get(list(self._data))
            self._labeler = Labeler(teacher, images, self._spec.view_rule, self._spec.seed, device, self._memory)
        return self._labeler.shard(self._spec, index)


def relabel(
    teacher: Teacher,
    images: ImageSet,
    spec: LabelSpec,
    out: str | os.PathLike[str] | RemotePath,
    *,
    workers: int | None = None,
    image_memory: ImageMemory | None = None,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> LabelSet:
    """Make the label set of `spec` in the folder `out`, a path or a URI, on the connected Ray cluster.

    Run again, it resumes. Every node must see `out`.

    A folder that holds the finished set is left as it is. Shards are written whole or not at all, the manifest last.

    Args:
        workers: teachers at work at once, which share GPUs (or CPUs) where they are more than those; default one per
            GPU, or one per CPU where there is no GPU.
        image_memory: where workers have the decoded images, see `lpqld.views.bank.ImageBank`.
        progress: called with shards done and shards in all.
        say: told where the images are, once.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        DataError: the teacher gives logits that are not finite.
        LpqldError: a shard failed again and again; the message names it.
    """
    folder, total = location(out), spec.num_shards
    if (folder / MANIFEST_FILE).is_file():
        found = LabelSet.open(folder)
        if found.spec.fingerprint != spec.fingerprint:
            raise ConfigError(
                f"{folder} holds another label set ({_differences(found.spec, spec)}); choose another --out"
            )
        progress(total, total)
        return found
    claim(folder, _JOB_FILE, spec.fingerprint, "shards", "relabel job")
    sweep_temporary_files(folder)
    shards = _find_shards(folder, spec)
    progress(len(shards), total)
    pending = [index for index in range(total) if index not in shards]
    told = False
    for index, answer in _label_shards(teacher, images, spec, folder, pending, workers, image_memory):
        shards[index] = Shard(answer["bytes"], answer["sha256"])
        if not told and "images" in answer:
            say(f"decoded images: {answer['images']}")
            told = True
        progress(len(shards), total)
    _finish(folder, Manifest(spec, tuple(shards[index] for index in range(total))))
    return LabelSet.open(folder)


def _label_shards(
    teacher: Teacher,
    images: ImageSet,
    spec: LabelSpec,
    folder: Location,
    pending: list[int],
    workers: int | None,
    image_memory: ImageMemory | None,
) -> Iterator[tuple[int, Answer]]:
    """Make the shards `pending`, and tell of each as it is done."""
    if not pending:
        return
    arguments = {
        "spec": spec,
        # In the object store, where the workers of a node share one copy.
        "teacher": ray.put(teacher.cpu()),
        "images": ray.put(images),
        "folder": folder.absolute(),
        "memory": image_memory,
    }
    yield from run_shards(_ShardWriter, arguments, pending, **pool_for(len(pending), workers))


def _find_shards(folder: Location, spec: LabelSpec) -> dict[int, Shard]:
    """The shards that `folder` holds already."""
    present = file_sizes(folder)
    found = [index for index in range(spec.num_shards) if shard_file(index) in present]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(found, pool.map(lambda index: _describe(folder, spec, index), found), strict=True))


def _describe(folder: Location, spec: LabelSpec, index: int) -> Shard:
    """The manifest's entry for a shard in `folder`, which must be this job's."""
    path = folder / shard_file(index)
    content = path.read_bytes()
    try:
        check_header(spec, index, content)
    except DataError as error:
        raise DataError(f"{path}: {error}; delete it and run the same command again") from error
    return Shard.of(content)


def _finish(folder: Location, manifest: Manifest) -> None:
    """Write the manifest, and leave nothing in `folder` but the label set."""
    sweep_temporary_files(folder)  # of workers that were lost in the midst of writing
    write_retried(folder / MANIFEST_FILE, manifest.to_bytes())
    (folder / _JOB_FILE).unlink(missing_ok=True)


def _differences(found: LabelSpec, wanted: LabelSpec) -> str:
    ours, theirs = wanted.to_json(), found.to_json()
    return ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and key != "recipe")
