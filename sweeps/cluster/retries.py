"""What a worker tries again, and how often."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any, TypeVar

import ray

from lpqld.errors import ConfigError, LpqldError
from lpqld.storage import Location, write_atomically

_MOST_TRIES = 3
# Seconds before a failed step is tried again, in the same worker.
_PAUSES = (1.0, 4.0)
_FOR_GOOD = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

_Made = TypeVar("_Made")


def begin(tries: Any, index: int, what: str) -> None:
    """Count a try at a shard, in `sweeps.cluster.tries.Tries`, before anything that may kill this process.

    Raises:
        LpqldError: its worker was lost too often.
    """
    lost = ray.get(tries.begin.remote(index))
    if lost >= _MOST_TRIES:
        raise LpqldError(
            f"{what}: the worker that made it was lost {lost} times, perhaps for want of memory; what is finished is "
            f"kept. Pass fewer --workers or a smaller --batch-size"
        )


def retried(step: Callable[[], _Made], name: str) -> _Made:
    """The result of `step`, tried again where what failed may pass: a lost connection, a device short of memory."""
    for pause in (*_PAUSES, None):
        try:
            return step()
        except LpqldError as error:
            cause = error.__cause__
            if pause is None or not isinstance(cause, OSError) or cause.errno in _FOR_GOOD:
                raise
        except Exception as error:
            if pause is None:
                raise LpqldError(
                    f"{name} failed {len(_PAUSES) + 1} times, at last with {type(error).__name__}: {error}. What is "
                    f"finished is kept; run the same command again"
                ) from error
        time.sleep(pause)
    raise AssertionError


def write_retried(path: Location, content: bytes) -> None:
    """Put a file in place; where another job on the folder swept its temporary file away, again."""
    try:
        retried(lambda: write_atomically(path, content), f"writing {path}")
    except ConfigError as error:
        raise ConfigError(f"{error}. What is finished is kept; run the same command again to go on") from error
