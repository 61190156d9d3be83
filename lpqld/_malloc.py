"""The C library's allocator, told that networks run on the CPU."""

from __future__ import annotations

import ctypes
import sys

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Freed memory stays with this process, up to 2 GiB of it; where the C library is not glibc, nothing happens.

    glibc takes every large tensor from the kernel and gives it back at once, and the kernel clears its pages each time:
    up to a third of a training step's time on a CPU (docs/speed.md). For processes that this project starts, since it
    holds for everything in them. Results stay as they are; the peak of memory rises by up to a ninth.

    Returns:
        Whether it holds now.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
