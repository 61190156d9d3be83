"""What a long job tells while it runs, and whom it tells: a command's reporter, or nobody."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of a long job while it runs."""

    def say(self, text: str) -> None:
        """A sentence on what happens."""
        ...

    def progress(self, phase: str, done: int, total: int) -> None:
        """How much of a phase is done, and how much there is of it."""
        ...


class _Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Drop a sentence."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Drop a count."""


SILENT: Progress = _Silent()
