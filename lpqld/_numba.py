"""Compile hot loops with numba, keep what was compiled for the next process, and run it in threads."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from numba import config, njit

_PIXELS_PER_THREAD = 2**16
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile with numba, without the interpreter's lock; kept on disk for the next process, where a folder allows."""
    elsewhere = config.CACHE_DIR
    config.CACHE_DIR = elsewhere or _folder_of_compiled(Path(function.__code__.co_filename))
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder to keep it in
        return cast(Function, njit(nogil=True)(function))
    finally:
        config.CACHE_DIR = elsewhere


def inlined(function: Function) -> Function:
    """Make part of each compiled function that calls it: a call that hands over a whole model is not free."""
    return cast(Function, njit(inline="always")(function))


def in_threads(job: Callable[[int, int], object], num_items: int, num_pixels: int) -> None:
    """Call `job(first, last)` for parts of `num_items` items, in up to `torch.get_num_threads()` threads.

    Args:
        num_pixels: of all items together; few of them are not worth a thread.
    """
    num_threads = max(1, min(torch.get_num_threads(), num_items, num_pixels // _PIXELS_PER_THREAD))
    parts = list(itertools.pairwise(num_items * part // num_threads for part in range(num_threads + 1)))
    threads = [threading.Thread(target=job, args=part) for part in parts[1:]]
    for thread in threads:
        thread.start()
    job(*parts[0])
    for thread in threads:
        thread.join()


@cache
def _folder_of_compiled(file: Path) -> str:
    """A folder for this version of all files of a function's room: numba alone would not see that one called changed.

    Compiled functions call those of their own room, folders in it included, and of no other: a test sees to it.
    """
    package = Path(__file__).parent
    room = package / file.relative_to(package).parts[0] if file.is_relative_to(package) else file.parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(room.rglob("*.py"))))
    return str(room / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}")
