"""Whole small sweeps on a Ray of 1, 2 and 8 CPUs, a GPU by name too: no phase waits for ever for what others hold."""

import json
import subprocess
import sys

import pytest

from tests.conftest import command_environment

SWEEPS = """
import json, logging, sys
from pathlib import Path
import ray
from sweeps.config.load import load_config
from sweeps.sweep import run_sweep

cpus, gpus, root = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
ray.init(address="local", num_cpus=cpus, num_gpus=gpus, object_store_memory=200 * 2**20, include_dashboard=False,
         logging_level=logging.ERROR, log_to_driver=False)
small = {"images.ipc": 3, "student.epochs": 10, "search.trials": 2, "search.budgets": ["3KB"], "search.k": [2, 3],
         "teacher.fit_epochs": 1, "confirm.seeds": 1, "confirm.baselines": False}
done = []
for name in ("first", "second"):
    result = run_sweep(load_config("digits", {**small, "name": name, "student.batch_size": 30 + len(done)}), root)
    files = {str(path): path.stat().st_mtime_ns for path in (root / "labels").rglob("*") if path.is_file()}
    done.append({"trials": result.num_trials, "points": len(result.points), "masters": files})
print(json.dumps(done))
"""


@pytest.mark.parametrize(
    ("cpus", "gpus"),
    [(1, 0), pytest.param(2, 0, marks=pytest.mark.slow), pytest.param(8, 1, marks=pytest.mark.slow)],
    ids=["1", "2", "8 and a GPU"],
)
def test_a_sweep_ends_and_the_next_one_finds_its_labels(tmp_path, cpus, gpus):
    command = [sys.executable, "-c", SWEEPS, str(cpus), str(gpus), str(tmp_path)]
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert (first["trials"], first["points"], second["trials"], second["points"]) == (2, 1, 2, 1)
    assert first["masters"] == second["masters"], "relabeled once"
