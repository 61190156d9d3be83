"""Students as Ray tasks of a CPU each, every finished one a small JSON file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from label_students import cpu_name, versions

from lpqld.storage import write_atomically


def on_one_cpu(train_one: Callable[..., dict[str, Any]]) -> Any:
    """A remote function, of which workers find the scripts beside this one and above it."""
    known = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    return ray.remote(train_one).options(num_cpus=1, runtime_env={"env_vars": {"PYTHONPATH": known}})


def write_as_they_finish(running: Mapping[Any, Path]) -> None:
    """Each result into its file, with the machine and versions."""
    left = dict(running)
    while left:
        (done,), _ = ray.wait(list(left))
        path, found = left.pop(done), ray.get(done)
        write_atomically(path, json.dumps({**found, "machine": cpu_name(), "versions": versions()}).encode())
        print(f"{path.name}: validation {found['val_accuracy']:.3f}", file=sys.stderr, flush=True)
