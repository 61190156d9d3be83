"""Seconds of `make demo` by phase and the peak memory (PSS) of all its processes.

Run as `python benchmarks/demo.py [--json] [--repeats N] [--root FOLDER]`; prints medians, and leaves the last run's
results in FOLDER, from which README's table, figure and picture are. The claim: under 4 minutes and under 4 GB on 2
cores without a GPU, apart from installation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

_SAMPLE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--root", type=Path, help="an empty folder for the last run's results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / f"runs-{number}" for number in range(arguments.repeats)]
        if arguments.root:
            roots[-1] = arguments.root
        runs = [run_demo(root) for root in roots]
    phases = {phase: statistics.median(run["seconds"][phase] for run in runs) for phase in runs[0]["seconds"]}
    document = {
        "cores": os.cpu_count(),
        "repeats": len(runs),
        "seconds": {**phases, "total": statistics.median(run["total"] for run in runs)},
        "peak_pss_bytes": statistics.median(run["peak_pss"] for run in runs),
        "versions": runs[0]["environment"],
    }
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    for phase, seconds in document["seconds"].items():
        print(f"{phase:>8} {seconds:6.1f} s")
    print(f"{'memory':>8} {document['peak_pss_bytes'] / 1e9:6.2f} GB, peak PSS of all processes")


def run_demo(root: Path) -> dict:
    """One `lpqld sweep digits` in a fresh root."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cli.main", "sweep", "digits", "--root", str(root), "--json"]
    before = {process.pid for process in psutil.process_iter()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, total_pss(before))
            time.sleep(_SAMPLE_SECONDS)
        total = time.perf_counter() - start
        assert process.stdout is not None
        result = json.load(process.stdout)
    return {**result, "total": total, "peak_pss": peak}


def total_pss(others: set[int]) -> int:
    """Proportional set size of every process that was not there before: Ray's daemons leave their parent's tree."""
    total = 0
    for process in psutil.process_iter():
        if process.pid in others:
            continue
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


if __name__ == "__main__":
    main()
