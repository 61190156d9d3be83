"""Ray Data around `lpqld.relabel`: one row is one shard, so work can be lost and repeated at will."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError

from lpqld.errors import ConfigError, DataError, LpqldError
from lpqld.images import ImageSet
from lpqld.labels import LabelSet
from lpqld.location import Location, RemotePath, file_sizes, location
from lpqld.manifest import MANIFEST_FILE, Manifest
from lpqld.relabel import Labeler
from lpqld.shards import Shard, check_header, shard_file
from lpqld.spec import LabelSpec
from lpqld.store import sweep_temporary_files, write_atomically
from lpqld.teacher import Teacher
from sweeps.cluster import num_cpus, num_gpus, use_assigned_resources

_JOB_FILE = ".relabel.json"
Progress = Callable[[int, int], None]


class _ShardWriter:
    """An actor: a teacher on its device that labels and writes the shards it is given."""

    def __init__(self, spec: LabelSpec, teacher: Any, images: Any, folder: Location) -> None:
        device = use_assigned_resources(cpus=1)
        self._spec, self._folder = spec, folder
        teacher, images = ray.get([teacher, images])
        self._labeler = Labeler(teacher, images, spec.view_rule, spec.seed, device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        failures = []
        for index in batch["shard"]:
            path = self._folder / shard_file(int(index))
            failure = ""
            if not path.exists():
                try:
                    write_atomically(path, self._labeler.shard(self._spec, int(index)))
                except LpqldError as error:
                    # A mistake that a retry cannot mend goes back as data: Ray would retry an exception.
                    failure = json.dumps({"kind": type(error).__name__, "message": str(error)})
            failures.append(failure)
        return {"shard": batch["shard"], "failure": np.array(failures, dtype=object)}


def relabel(
    teacher: Teacher,
    images: ImageSet,
    spec: LabelSpec,
    out: str | os.PathLike[str] | RemotePath,
    *,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> LabelSet:
    """Make the label set of `spec` in the folder `out`, a path or a URI, on the connected Ray cluster.

    Run again, it resumes. Every node must see `out`.

    A folder that holds the finished set is left as it is. Shards are written whole or not at all, the manifest last.

    Args:
        workers: teachers at work at once; default one per GPU, or one per CPU where there is no GPU.
        progress: called with shards done and shards in all.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        DataError: the teacher gives logits that are not finite.
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
    _claim(folder, spec)
    sweep_temporary_files(folder)
    found_files = file_sizes(folder)
    pending = [index for index in range(total) if shard_file(index) not in found_files]
    progress(total - len(pending), total)
    if pending:
        _label_shards(
            teacher, images, spec, folder, pending, workers, lambda done: progress(total - len(pending) + done, total)
        )
    shards = tuple(_describe(folder, spec, index) for index in range(total))
    write_atomically(folder / MANIFEST_FILE, Manifest(spec, shards).to_bytes())
    (folder / _JOB_FILE).unlink()
    return LabelSet.open(folder)


def _label_shards(
    teacher: Teacher,
    images: ImageSet,
    spec: LabelSpec,
    folder: Location,
    pending: list[int],
    workers: int | None,
    progress: Callable[[int], None],
) -> None:
    gpus = num_gpus()
    pool_size = min(workers or gpus or num_cpus(), len(pending))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Workers may fail for reasons that pass (a lost connection); shards are idempotent, so try again.
    context.retried_map_errors = ["OSError", "ConnectionError"]
    context.max_map_retries = 2
    resources = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    dataset = ray.data.from_items(
        [{"shard": index} for index in pending], override_num_blocks=len(pending)
    ).map_batches(
        _ShardWriter,
        fn_constructor_kwargs={
            "spec": spec,
            "teacher": ray.put(teacher.cpu()),
            "images": ray.put(images),
            "folder": folder.absolute(),
        },
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(min_size=pool_size, max_size=pool_size),
        **resources,
    )
    try:
        for done, row in enumerate(dataset.iter_rows(), start=1):
            if row["failure"]:
                failure = json.loads(row["failure"])
                kind = ConfigError if failure["kind"] == "ConfigError" else DataError
                raise kind(failure["message"])
            progress(done)
    except RayError as error:
        raise LpqldError(
            f"relabeling failed on the cluster: {error}. What is finished is kept; run the same command again"
        ) from error


def _describe(folder: Location, spec: LabelSpec, index: int) -> Shard:
    """The manifest's entry for a shard in `folder`, which must be this job's."""
    path = folder / shard_file(index)
    content = path.read_bytes()
    try:
        check_header(spec, index, content)
    except DataError as error:
        raise DataError(f"{path}: {error}; delete it and run the same command again") from error
    return Shard.of(content)


def _claim(folder: Location, spec: LabelSpec) -> None:
    """Mark `folder` as the place of this job, or refuse it where it holds another's work."""
    claim = json.dumps({"fingerprint": spec.fingerprint}).encode()
    job = folder / _JOB_FILE
    if job.is_file():
        if job.read_bytes() != claim:
            raise ConfigError(
                f"{folder} holds the unfinished shards of another relabel job; choose another --out or delete it"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and is no relabel job of this project; choose another --out")
    write_atomically(job, claim)


def _differences(found: LabelSpec, wanted: LabelSpec) -> str:
    ours, theirs = wanted.to_json(), found.to_json()
    return ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and key != "recipe")
