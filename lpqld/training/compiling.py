"""Whether a student's training runs through `torch.compile`."""

from __future__ import annotations

import shutil
from typing import Literal

import torch
from torch import nn

from lpqld.errors import ConfigError
from lpqld.training.student import Student

Compile = Literal["auto", "on", "off"]
# From here on "auto" compiles, on CUDA: the minute that it takes is earned back.
_STEPS_WORTH_COMPILING = 5000


def compiled(student: Student, choice: Compile, device: torch.device, num_steps: int) -> nn.Module:
    """The student, compiled if that is asked for or pays within `num_steps`.

    On a CPU it gained 8 % and took 19 s, and results would depend on the steps to come: there only where asked for.

    Raises:
        ConfigError: it is asked for, and there is no C++ compiler.
    """
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
    if choice == "on" and not has_compiler:
        raise ConfigError("torch.compile needs a C++ compiler, and none is on the path: install one, or do not compile")
    pays = device.type == "cuda" and num_steps >= _STEPS_WORTH_COMPILING and has_compiler
    if choice == "on" or (choice == "auto" and pays):
        # A step has one of two numbers of views: two programs, rather than one for any number.
        return torch.compile(student, dynamic=False)  # type: ignore[return-value]
    return student
