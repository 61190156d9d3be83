"""The folder of one sweep: whose it is, and how long it has worked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpqld.errors import ConfigError, DataError
from lpqld.storage import canonical_json, kept_json, read_json, write_atomically
from sweeps.config import SweepConfig

CONFIG_FILE, SECONDS_FILE, TRIALS_FOLDER, REPORT_FOLDER = "config.json", "seconds.json", "trials", "report"


@dataclass
class Clock:
    """Seconds by phase, kept on disk so that an interrupted sweep reports all of its time."""

    path: Path
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("teacher", "images", "relabel", "search", "confirm"), 0.0)
    )

    def __post_init__(self) -> None:
        self.seconds.update(kept_json(self.path) or {})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start
            write_atomically(self.path, json.dumps(self.seconds).encode())


@contextmanager
def claimed(folder: Path, config: SweepConfig) -> Iterator[None]:
    """Hold the sweep's folder for a configuration; a mistake found before the first trial gives it back.

    So a corrected command needs no other name.

    Raises:
        ConfigError: another configuration made the folder, or it cannot be written.
    """
    _claim(folder, config)
    try:
        yield
    except (ConfigError, DataError):
        if not (folder / TRIALS_FOLDER).is_dir():
            for name in (CONFIG_FILE, SECONDS_FILE):
                (folder / name).unlink(missing_ok=True)
        raise


def _claim(folder: Path, config: SweepConfig) -> None:
    unused = {"resources"} if config.recovers else {"resources", "recover"}
    document = json.loads(canonical_json(config.model_dump(mode="json", exclude=unused)))
    path = folder / CONFIG_FILE
    if not path.is_file():
        write_atomically(path, json.dumps(document, indent=2).encode())
        return
    before = _flat(read_json(path, f"restore it, or delete {folder} or pass another --name to begin anew"))
    now = _flat(document)
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        shown = "; ".join(f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in changed[:5])
        raise ConfigError(
            f"{folder} was made by another configuration ({shown}). Pass another --name or --root, or delete it"
        )


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
