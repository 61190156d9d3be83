"""How often each shard was begun; a module of its own, light, since its actor's process imports it and nothing else."""

from __future__ import annotations

from collections import Counter


class Tries:
    """An actor beside the workers: counts how often each shard was begun, whatever became of who began it."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        """One more try at a shard: how many there were before."""
        self._begun[index] += 1
        return self._begun[index] - 1
