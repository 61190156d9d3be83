"""The `lpqld` command, as benchmarks call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_data import in_place


def lpqld(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """What a command says with --json, run in a folder; `{data}` stands for that of the real data.

    Raises:
        SystemExit: it failed.
    """
    print("lpqld", *command, file=sys.stderr, flush=True)
    line = [in_place(part) for part in command]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *line, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"failed with {done.returncode}: lpqld {' '.join(command)}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
