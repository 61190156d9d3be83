"""Several teachers as one: the mean of their logits ("A Label is Worth a Thousand Images", arXiv 2406.10485)."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.models.teacher import Teacher, load_teacher


class MeanOfLogits(nn.Module):
    """Networks that take the same input; their logits' mean."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised inputs, float [B, 3, H, W], to logits [B, C]."""
        return torch.stack([member(inputs) for member in self.members]).mean(dim=0)


def teacher_files(source: Path | str) -> list[Path]:
    """The checkpoints that a path, a pattern with wildcards, or a list of either between commas names, each once.

    Raises:
        ConfigError: a pattern names no file. A path is returned whether there is a file or not.
    """
    text = str(source)
    files: list[Path] = []
    whole = Path(text).is_file() or (glob.has_magic(text) and glob.glob(text))
    for part in [text] if whole else text.split(","):
        if Path(part).is_file() or not glob.has_magic(part):
            files.append(Path(part))
        elif names := sorted(glob.glob(part)):
            files += [Path(name) for name in names]
        else:
            raise ConfigError(f"no teacher matches {part}: expected checkpoints of that pattern")
    return list(dict.fromkeys(files))


def load_teachers(source: Path | str | Sequence[Path], **options: Any) -> Teacher:
    """The teacher at `source`, or the ensemble of those that `teacher_files` finds there, or of the files given.

    Raises:
        ConfigError, DataError: as `load_teacher` and `ensemble` do.
    """
    files = teacher_files(source) if isinstance(source, (str, Path)) else source
    return ensemble([load_teacher(path, **options) for path in files])


def ensemble(teachers: Sequence[Teacher]) -> Teacher:
    """One teacher of several that see the same views; its architecture says how many there are of each.

    Raises:
        DataError: they differ in what their weights expect, or in the classes of their outputs.
    """
    first = teachers[0]
    if len(teachers) == 1:
        return first
    for other in teachers[1:]:
        for name in ("num_classes", "input_size", "mean", "std", "interpolation", "class_names"):
            ours, theirs = getattr(first.spec, name), getattr(other.spec, name)
            if ours != theirs:
                raise DataError(
                    f"the teachers of an ensemble must take the same views and have the same classes: {name} is"
                    f" {ours} of one and {theirs} of another"
                )
    names = [teacher.spec.architecture for teacher in teachers]
    architecture = " + ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    model = MeanOfLogits([teacher.model for teacher in teachers])
    return Teacher(model, replace(first.spec, architecture=architecture), first.selection)
