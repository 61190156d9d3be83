"""A listener to long jobs, for tests: it keeps what it hears."""

from collections.abc import Callable


class Heard:
    """A `lpqld.progress.Progress` that keeps sentences and counts, and calls `on_count` with each count."""

    def __init__(self, on_count: Callable[[str, int, int], object] = lambda phase, done, total: None) -> None:
        self.said: list[str] = []
        self.counts: list[tuple[str, int, int]] = []
        self._on_count = on_count

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, phase: str, done: int, total: int) -> None:
        self.counts.append((phase, done, total))
        self._on_count(phase, done, total)
