"""The relabel job: the shards of a label set, each made alone, and the manifest at the end."""

from __future__ import annotations

import os
from functools import partial

import ray

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageMemory, ImageSet
from lpqld.labels import MANIFEST_FILE, LabelSet, LabelSpec, Manifest, Shard, check_header, shard_file
from lpqld.models import Teacher
from lpqld.progress import SILENT, Progress
from lpqld.storage import Location, RemotePath, location, sweep_temporary_files
from sweeps.cluster import Answer, NumberedFiles, claim, make_files, write_retried
from sweeps.jobs.shard_maker import ShardMaker

_JOB_FILE = ".relabel.json"


def relabel(
    teacher: Teacher,
    images: ImageSet,
    spec: LabelSpec,
    out: str | os.PathLike[str] | RemotePath,
    *,
    workers: int | None = None,
    image_memory: ImageMemory | None = None,
    progress: Progress = SILENT,
    phase: str = "relabel",
) -> LabelSet:
    """Make the label set of `spec` in the folder `out`, a path or a URI, on the connected Ray cluster.

    Run again, it resumes. Every node must see `out`.

    A folder that holds the finished set is left as it is. Shards are written whole or not at all, the manifest last.

    Args:
        workers: teachers at work at once, which share GPUs (or CPUs) where they are more than those; default one per
            GPU, or one per CPU where there is no GPU.
        image_memory: where workers have the decoded images, see `lpqld.views.bank.ImageBank`.
        progress: told of shards done, and once where the images are.
        phase: what `progress` calls the shards.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        DataError: the teacher gives logits that are not finite.
        LpqldError: a shard failed again and again; the message names it.
    """
    folder = location(out)
    if (folder / MANIFEST_FILE).is_file():
        finished = _open_finished(folder, spec)
        progress.progress(phase, spec.num_shards, spec.num_shards)
        return finished
    claim(folder, _JOB_FILE, spec.fingerprint, "shards", "relabel job")
    sweep_temporary_files(folder)

    def maker_for(_missing: list[int]) -> ShardMaker:
        return ShardMaker(spec, ray.put(teacher.cpu()), ray.put(images), image_memory)

    answers = make_files(
        NumberedFiles(folder, spec.num_shards, shard_file, partial(_describe, spec)),
        maker_for,
        phase=phase,
        workers=workers,
        progress=progress,
        on_answer=_ImagesAnnouncer(progress),
    )
    shards = [Shard(answers[index]["bytes"], answers[index]["sha256"]) for index in range(spec.num_shards)]
    _write_manifest(folder, Manifest(spec, tuple(shards)))
    return LabelSet.open(folder)


class _ImagesAnnouncer:
    """Says once where the workers have the decoded images."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._is_said = False

    def __call__(self, _index: int, answer: Answer) -> None:
        if not self._is_said and "images" in answer:
            self._progress.say(f"decoded images: {answer['images']}")
            self._is_said = True


def _open_finished(folder: Location, spec: LabelSpec) -> LabelSet:
    label_set = LabelSet.open(folder)
    if label_set.spec.fingerprint != spec.fingerprint:
        raise ConfigError(
            f"{folder} holds another label set ({_differences(label_set.spec, spec)}); choose another --out"
        )
    return label_set


def _differences(present: LabelSpec, wanted: LabelSpec) -> str:
    ours, theirs = wanted.to_json(), present.to_json()
    return ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and key != "recipe")


def _describe(spec: LabelSpec, index: int, path: Location) -> Answer:
    """The manifest's entry for a shard that is there, which must be this job's."""
    content = path.read_bytes()
    try:
        check_header(spec, index, content)
    except DataError as error:
        raise DataError(f"{path}: {error}; delete it and run the same command again") from error
    return Shard.of(content).to_json()


def _write_manifest(folder: Location, manifest: Manifest) -> None:
    """Write the manifest, and leave nothing in `folder` but the label set."""
    sweep_temporary_files(folder)  # of workers that were lost in the midst of writing
    write_retried(folder / MANIFEST_FILE, manifest.to_bytes())
    (folder / _JOB_FILE).unlink(missing_ok=True)
