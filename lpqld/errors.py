"""The two mistakes a user can make, and what each means for the exit code of a command."""


class LpqldError(Exception):
    """An error whose message alone tells a user what happened and what to do."""

    exit_code = 1


class ConfigError(LpqldError, ValueError):
    """The command, an option, a configuration or the root directory is wrong (exit code 2)."""

    exit_code = 2


class DataError(LpqldError, ValueError):
    """Images, labels or a teacher are wrong; the message names the file and the reason (exit code 3)."""

    exit_code = 3
