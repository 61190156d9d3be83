"""What Ray tasks return, as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ray
from ray.exceptions import RayTaskError

from lpqld.errors import LpqldError


def result_of(reference: Any) -> Any:
    """`ray.get` of a task; an error of ours that it raised is raised as itself, without a worker's traceback."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, LpqldError) else error) from None


def as_completed(references: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each task as it ends: its reference, and its result as `result_of` gives it.

    Whoever adds tasks meanwhile asks for the next one alone: `next(as_completed(running))`.
    """
    pending = list(references)
    while pending:
        finished, pending = ray.wait(pending)
        for reference in finished:
            yield reference, result_of(reference)
