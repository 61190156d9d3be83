"""The two mistakes a user can make, what each means for the exit code of a command, and lists in their messages."""

from __future__ import annotations

from collections.abc import Iterable


class LpqldError(Exception):
    """An error whose message alone tells a user what happened and what to do."""

    exit_code = 1


class ConfigError(LpqldError, ValueError):
    """The command, an option, a configuration or the root directory is wrong (exit code 2)."""

    exit_code = 2


class DataError(LpqldError, ValueError):
    """Images, labels or a teacher are wrong; the message names the file and the reason (exit code 3)."""

    exit_code = 3


def few(names: Iterable[object], count: int = 5) -> str:
    """The first `count` of `names` for a message, and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more
