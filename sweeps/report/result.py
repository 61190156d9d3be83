"""What a sweep found: typed records, stored as JSON in the sweep's folder and printed by `lpqld sweep --json`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lpqld.errors import ConfigError
from lpqld.storage import read_json, write_atomically

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Accuracy:
    """Mean and sample deviation of `n` accuracies (fractions) over seeds; the deviation of one value is 0."""

    mean: float
    std: float
    n: int
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Sequence[float]) -> Accuracy:
        """Summarise `values`, one accuracy a seed."""
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1) if len(values) > 1 else 0.0
        return cls(mean=mean, std=math.sqrt(variance), n=len(values), values=tuple(values))


@dataclass(frozen=True)
class Point:
    """One confirmed choice over all its seeds: its bytes, its accuracy on the test set, its configuration.

    `budget` is in bytes (None for a baseline), `labels` the path of the label set on disk (None where none is
    written), `val_accuracy` the mean over seeds on the validation set: the one that selects and decides `on_front`.
    """

    trial_id: str
    budget: int | None
    label_bytes: int
    image_bytes: int
    accuracy: Accuracy
    val_accuracy: float
    config: dict[str, Any]
    on_front: bool = False
    labels: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep."""

    experiment: str
    root: str
    teacher: dict[str, Any]
    points: tuple[Point, ...]
    baselines: tuple[Point, ...]
    seconds: dict[str, float]
    all_label_bytes: int
    num_trials: int = 0
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON document of `lpqld sweep --json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SweepResult:
        """The inverse of `to_json`."""

        def point(entry: dict[str, Any]) -> Point:
            accuracy = {**entry["accuracy"], "values": tuple(entry["accuracy"]["values"])}
            return Point(**{**entry, "accuracy": Accuracy(**accuracy)})

        points = tuple(point(entry) for entry in document["points"])
        baselines = tuple(point(entry) for entry in document["baselines"])
        return cls(**{**document, "points": points, "baselines": baselines, "notes": tuple(document["notes"])})

    def save(self, folder: Path) -> None:
        """Write `result.json` into the sweep's `folder`, whole or not at all."""
        write_atomically(folder / RESULT_FILE, json.dumps(self.to_json(), indent=2).encode())


def load_result(root: str | Path, experiment: str) -> SweepResult:
    """The finished sweep `experiment` under `root`.

    Raises:
        ConfigError: there is none; the message lists the sweeps that are there.
    """
    path = Path(root) / experiment / RESULT_FILE
    if not path.is_file():
        known = sorted(result.parent.name for result in Path(root).glob(f"*/{RESULT_FILE}"))
        there = f"finished sweeps there: {', '.join(known)}" if known else "no finished sweep is there"
        unfinished = " (it was started but has not finished: run the same `lpqld sweep` again to resume it)"
        hint = unfinished if path.parent.is_dir() else ""
        raise ConfigError(
            f"no result of experiment {experiment!r} under {root}{hint}; {there}. Pass --root if it is elsewhere"
        )
    return SweepResult.from_json(read_json(path, "run the same `lpqld sweep` again: it makes it of what is finished"))
