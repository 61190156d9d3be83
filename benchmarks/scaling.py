"""How relabeling scales: workers on this machine, what Ray costs, and many made-up workers through the same scheduling.

Run as `python benchmarks/scaling.py [--json] [--repeats N] [--parts workers overhead simulate driver]`. Claims: in the
steady state two one-thread workers do at least 1.7 x one (on 2 cores); Ray adds under 3 % to the bare teacher at 64 px;
the first batch comes within 15 s; driver memory and manifest grow at most linearly. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from made_up_workers import grow, simulate

from lpqld.codecs import Dense
from lpqld.images import ImageSet
from lpqld.labels import ImagesRef, Labeler, LabelSpec, Manifest, Shard, shard_file, shard_size, specify
from lpqld.models import Teacher, TeacherSpec, build
from lpqld.storage import write_atomically
from lpqld.views import ViewRule
from sweeps.cluster import cluster
from sweeps.jobs import relabel

PARTS = ("workers", "overhead", "simulate", "driver")
CLASSES, SIZE, BATCH = 200, 64, 100
RULE = ViewRule()
CPU = torch.device("cpu")


class Timed(torch.nn.Module):
    """A network that notes for every batch its process, when it began and ended, and how many views it had."""

    def __init__(self, network: torch.nn.Module, log: Path) -> None:
        super().__init__()
        self.network, self.log = network, str(log)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        start = time.time()
        logits = self.network(views)
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {start} {time.time()} {len(views)}\n")
        return logits


class Trivial(torch.nn.Module):
    """A network that costs nothing: the first pixel of each view, for every class."""

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return views[:, 0, 0, :1].expand(-1, CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in alternation")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--shards", type=int, default=6, help="shards of each worker in a run")
    parser.add_argument("--simulated", type=int, nargs="+", default=[8, 16, 32, 64], help="numbers of made-up workers")
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000], help="shards in a job")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "repeats": arguments.repeats,
        "versions": {name: metadata.version(name) for name in ("lpqld", "ray", "torch")},
    }
    # Ray prints warnings on stdout.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        start = time.time()
        with cluster("local"):
            document["ray_up_seconds"] = time.time() - start
            if "workers" in arguments.parts:
                document["workers"] = measure_workers(Path(folder), arguments.repeats, arguments.shards)
            if "overhead" in arguments.parts:
                document["overhead"] = measure_overhead(Path(folder), arguments.repeats)
            if "simulate" in arguments.parts:
                document["simulated"] = [simulate(workers) for workers in arguments.simulated]
            if "driver" in arguments.parts:
                document["driver"] = [grow(rows) for rows in arguments.rows]
                document["manifest"] = [manifest_bytes(rows) for rows in arguments.rows]
    print(json.dumps(document, indent=2) if arguments.json else yaml.safe_dump(document, sort_keys=False), end="\n")


def made_up_images(num_images: int) -> ImageSet:
    """Noise of 64 px."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        pixels=torch.randint(0, 256, (num_images, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator),
        labels=torch.arange(num_images) * CLASSES // num_images,
        class_names=tuple(map(str, range(CLASSES))),
        ids=torch.arange(num_images).numpy(),
        encoded_bytes=torch.full((num_images,), 5000).numpy(),
        source="made up",
    )


def resnet18(log: Path) -> Teacher:
    torch.manual_seed(0)
    return Teacher(Timed(build("resnet18", CLASSES), log), TeacherSpec("resnet18", CLASSES, SIZE))


def measure_workers(folder: Path, repeats: int, shards: int) -> dict[str, Any]:
    """Views per second of one worker and of two in the steady state, in alternation, and seconds to the first batch."""
    images = made_up_images(2 * shards * 800 // 4)
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for repeat in range(repeats):
        for workers, found_runs in runs.items():
            log = folder / f"log-{repeat}-{workers}"
            teacher = resnet18(log)
            wanted = shards * workers * 800
            spec = specify(
                teacher,
                images.take(range(wanted // 4)),
                RULE,
                views_per_image=4,
                seed=0,
                batch_size=BATCH,
                device=CPU,
                shard_views=800,
            )
            start = time.time()
            used = time.process_time()
            chosen = images.take(range(wanted // 4))
            relabel(teacher, chosen, spec, folder / f"labels-{repeat}-{workers}", workers=workers)
            wall = time.time() - start
            found = steady(log)
            cores = (time.process_time() - used) / wall
            found_runs.append({**found, "start_up": found["first"] - start, "driver_cores": cores})
    one, two = (runs[workers] for workers in (1, 2))
    return {
        "views_per_second": {str(workers): [run["rate"] for run in found] for workers, found in runs.items()},
        "ratios": [b["rate"] / a["rate"] for a, b in zip(one, two, strict=True)],
        "ratio_median": statistics.median(b["rate"] / a["rate"] for a, b in zip(one, two, strict=True)),
        "of_bare_teacher_median": statistics.median(run["of_teacher"] for run in one),
        "start_up_seconds_median": statistics.median(run["start_up"] for run in two),
        "driver_cores_median": statistics.median(run["driver_cores"] for run in two),
    }


def steady(log: Path) -> dict[str, float]:
    """Of a log of batches: views per second while all its processes were at work, without the first batch of each."""
    lines = [line.split() for line in log.read_text().splitlines()]
    batches = [(pid, float(start), float(end), int(views)) for pid, start, end, views in lines]
    by_pid = [[batch for batch in batches if batch[0] == pid] for pid in sorted({batch[0] for batch in batches})]
    low, high = max(found[1][1] for found in by_pid), min(found[-1][2] for found in by_pid)
    inside = [batch for batch in batches if batch[1] >= low and batch[2] <= high]
    return {
        "first": max(found[0][2] for found in by_pid),
        "rate": sum(batch[3] for batch in inside) / (high - low),
        "of_teacher": sum(batch[2] - batch[1] for batch in inside) / (high - low) / len(by_pid),
    }


def measure_overhead(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds that Ray adds to a shard: of a network that costs nothing, through Ray and in a plain loop."""
    images, num_shards, views = made_up_images(400), 200, BATCH
    teacher = Teacher(Trivial(), TeacherSpec("made-up", CLASSES, SIZE))
    spec = specify(teacher, images, RULE, views_per_image=50, seed=0, batch_size=BATCH, device=CPU, shard_views=views)
    assert spec.num_shards == num_shards
    labeler = Labeler(teacher, images, RULE, 0, CPU)
    added = []
    for repeat in range(repeats):
        times = [time.perf_counter()]
        for index in range(num_shards):
            write_atomically(folder / f"plain-{repeat}" / shard_file(index), labeler.shard(spec, index))
            times.append(time.perf_counter())
        alone = steady_seconds(times)
        noted = Times()
        relabel(teacher, images, spec, folder / f"ray-{repeat}", workers=1, progress=noted)
        added.append(steady_seconds(noted.times) - alone)
    bare = bare_seconds_per_view()
    per_shard = statistics.median(added)
    usual = shard_size(60_000, BATCH, CLASSES)
    return {
        "seconds_per_shard": added,
        "seconds_per_shard_median": per_shard,
        "bare_teacher_seconds_per_view": bare,
        "smallest_shard_views": usual,
        "share_of_bare_teacher": per_shard / (bare * usual),
    }


class Times:
    """Progress that notes when each shard was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def say(self, text: str) -> None:
        pass

    def progress(self, phase: str, done: int, total: int) -> None:
        self.times.append(time.perf_counter())


def steady_seconds(times: list[float]) -> float:
    """Seconds between times, without the first tenth."""
    later = times[len(times) // 10 :]
    return (later[-1] - later[0]) / (len(later) - 1)


def bare_seconds_per_view() -> float:
    torch.manual_seed(0)
    network, views = build("resnet18", CLASSES).eval(), torch.rand(BATCH, 3, SIZE, SIZE)
    with torch.inference_mode():
        network(views)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            network(views)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / BATCH


def manifest_bytes(shards: int) -> dict[str, Any]:
    """The bytes of a manifest of so many shards."""
    images = made_up_images(CLASSES)
    spec = LabelSpec(
        num_images=CLASSES,
        num_classes=CLASSES,
        num_views=shards * CLASSES,
        full_views=shards,
        codec=Dense(),
        view_rule=RULE,
        seed=0,
        batch_size=CLASSES,
        shard_views=CLASSES,
        images=ImagesRef.of(images),
        teacher=resnet18_reference(),
    )
    entries = tuple(Shard(80_000, f"{math.pi * index:064.0f}"[:64]) for index in range(shards))
    return {"shards": shards, "bytes": len(Manifest(spec, entries).to_bytes())}


def resnet18_reference() -> Any:
    from lpqld.labels import TeacherRef

    return TeacherRef.of(TeacherSpec("resnet18", CLASSES, SIZE), "0" * 64)


if __name__ == "__main__":
    main()
