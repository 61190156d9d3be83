"""What a plain `pip install lpqld` does not bring, asked for before a command that needs it begins."""

from importlib.util import find_spec

from lpqld.errors import ConfigError

SWEEP_PACKAGES = ("mlflow", "optuna", "plotly", "ray")


def has_sweep_extra() -> bool:
    """Whether the packages of the extra `lpqld[sweep]` are installed."""
    return not _missing()


def require_sweep_extra(what: str) -> None:
    """Refuse what needs the extra `lpqld[sweep]` where it is not installed.

    Raises:
        ConfigError: naming `what`, the packages that are missing, and how to install them.
    """
    if missing := _missing():
        raise ConfigError(f"{what} needs {', '.join(missing)}: pip install 'lpqld[sweep]'")


def _missing() -> list[str]:
    return [name for name in SWEEP_PACKAGES if find_spec(name) is None]
