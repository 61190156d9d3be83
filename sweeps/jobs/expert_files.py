"""The files of experts: teachers, the checkpoints beside them, and what their fit wrote of itself."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpqld.errors import ConfigError
from lpqld.models import teacher_files
from lpqld.storage import kept_json

Trajectory = Mapping[int, Sequence[Path]]  # checkpoints by epoch, one of each expert
_ABOUT_SUFFIX = ".json"
_EPOCH = re.compile(r"-epoch(\d+)$")


def checkpoint_path(path: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies, beside the teacher."""
    return path.with_name(f"{path.stem}-epoch{epoch}{path.suffix}")


def epoch_of(path: Path) -> int | None:
    """The epoch in a checkpoint's name; None of a finished teacher."""
    match = _EPOCH.search(path.stem)
    return None if match is None else int(match[1])


def checkpoints_of(path: Path) -> dict[int, Path]:
    """The checkpoints beside a teacher, by epoch."""
    by_epoch = {epoch_of(file): file for file in path.parent.glob(f"{glob.escape(path.stem)}-epoch*{path.suffix}")}
    return {epoch: file for epoch, file in by_epoch.items() if epoch and file == checkpoint_path(path, epoch)}


def about_path(path: Path) -> Path:
    """Where the fit of the teacher at `path` writes of itself."""
    return path.with_suffix(_ABOUT_SUFFIX)


def read_about(path: Path) -> dict[str, Any] | None:
    """What the fit of the teacher at `path` has written of itself; None where there is none, or something else.

    It has the fit's `identity`, and once the fit is finished the `FittedTeacher` and the fingerprint of `test`.
    """
    document = kept_json(about_path(path))
    return document if document is not None and "identity" in document else None


def trajectory(source: str | Sequence[Path]) -> Trajectory:
    """Checkpoints by epoch, one an expert, of finished teachers: those given, or those that a pattern names.

    Raises:
        ConfigError: there are none, their epochs differ, or one was interrupted.
    """
    files = teacher_files(source) if isinstance(source, str) else source
    experts = [path for path in files if epoch_of(path) is None]
    for path in experts:
        about = read_about(path)
        if about is not None and "checkpoints" not in about:
            # Some of its checkpoints may be of the fit before.
            raise ConfigError(f"{path}: its fit was interrupted; the same command goes on from where it was")
    by_expert = [checkpoints_of(path) for path in experts]
    if not experts or not by_expert[0] or any(each.keys() != by_expert[0].keys() for each in by_expert):
        epochs = "; ".join(f"{path.name} has {sorted(each)}" for path, each in zip(experts, by_expert, strict=True))
        named = source if isinstance(source, str) else ", ".join(map(str, source))
        raise ConfigError(
            f"no experts at {named}: expected teachers with checkpoints of the same epochs beside them, as"
            f" `lpqld teacher fit --keep-at log:8` writes them ({epochs or 'none found'})"
        )
    return {epoch: [each[epoch] for each in by_expert] for epoch in sorted(by_expert[0])}
