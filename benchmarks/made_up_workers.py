"""Made-up workers of known latency through the same scheduling as relabeling: what Ray and the driver cost."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from typing import Any

import psutil
from ray import cloudpickle

from sweeps.cluster import run_shards

# Workers get the code itself: they import neither this nor torch.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Sleeper:
    """A worker of known latency, light enough to run many."""

    def __init__(self, seconds: float, tries: Any) -> None:
        self._seconds = seconds

    def __call__(self, index: int) -> dict[str, Any]:
        start = time.time()
        time.sleep(self._seconds)
        return {"start": start, "end": time.time(), "pid": os.getpid()}


def simulate(workers: int, shards_each: int = 8, seconds: float = 2.0) -> dict[str, Any]:
    """Made-up workers of known latency: how much of their time is work, between the first shard and the last."""
    process = psutil.Process()
    before, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
    start = time.time()
    rows = list(range(workers * shards_each + workers // 2))  # the last round is half full
    cpus = psutil.cpu_count() or 1
    pool = {"workers": workers, "resources": {"num_cpus": min(1.0, cpus / workers)}}
    answers = [answer for _, answer in run_shards(Sleeper, {"seconds": seconds}, rows, **pool)]
    wall = time.time() - start
    pids = {answer["pid"] for answer in answers}
    starts = [min(answer["start"] for answer in answers if answer["pid"] == pid) for pid in pids]
    ready, end = max(starts), max(answer["end"] for answer in answers)
    # Of the time from when all are at work to the end of all: what was work.
    worked = sum(max(0.0, answer["end"] - max(answer["start"], ready)) for answer in answers)
    gaps = []
    for pid in pids:
        own = sorted((answer["start"], answer["end"]) for answer in answers if answer["pid"] == pid)
        gaps += [later[0] - earlier[1] for earlier, later in itertools.pairwise(own)]
    return {
        "workers": workers,
        "processes": len(pids),
        "shards": len(rows),
        "seconds_per_shard": seconds,
        "ready_seconds": ready - start,
        "efficiency": worked / (workers * (end - ready)),
        "efficiency_without_the_last_round": seconds / (seconds + statistics.mean(gaps)),
        "gap_seconds_median": statistics.median(gaps),
        "driver_cores": (sum(process.cpu_times()[:2]) - cpu) / wall,
        "driver_bytes_added": process.memory_info().rss - before,
    }


def grow(rows: int) -> dict[str, Any]:
    """A job of many shards that take no time: the driver's memory and seconds."""
    process = psutil.Process()
    before, start, used, peak = process.memory_info().rss, time.time(), time.process_time(), 0
    shards = run_shards(Sleeper, {"seconds": 0.0}, list(range(rows)), workers=2, resources={"num_cpus": 1})
    for count, _ in enumerate(shards):
        if count % 50 == 0:
            peak = max(peak, process.memory_info().rss)
    return {
        "shards": rows,
        "driver_bytes_added": peak - before,
        "seconds": time.time() - start,
        "driver_cpu_seconds": time.process_time() - used,
    }
