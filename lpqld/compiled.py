"""Compile hot loops with numba, and keep what was compiled for the next process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import config, njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile with numba, without the interpreter's lock; kept on disk for the next process, where a folder allows."""
    elsewhere = config.CACHE_DIR
    config.CACHE_DIR = elsewhere or _folder_of_compiled(Path(function.__code__.co_filename).parent)
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder to keep it in
        return cast(Function, njit(nogil=True)(function))
    finally:
        config.CACHE_DIR = elsewhere


def inlined(function: Function) -> Function:
    """Make part of each compiled function that calls it: a call that hands over a whole model is not free."""
    return cast(Function, njit(inline="always")(function))


@cache
def _folder_of_compiled(folder: Path) -> str:
    """A folder for this version of all files beside a function: numba alone would not see that one called changed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))
    return str(folder / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}")
