"""Recovering images beside the teacher's bare forward and backward passes; how cost and memory grow.

Run as `python benchmarks/recover_speed.py [--threads N] [--rounds N] [--only cifar_resnet20-10] [--json]`. In turns, in
one process: the teacher's forward and backward pass to the images, on a batch that lies ready, in the precision that
recovering takes; and `Recoverer.recover` on as many images. Ratios are of medians over rounds. Then whole batches
of more and more classes and images per class, one after the other: seconds an image and iteration, and the process's
memory. Untrained networks, made-up statistics: neither matters to the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from label_students import cpu_name, versions
from relabel_speed import timed

from lpqld.distill import Batch, ClassStatistics, Recoverer, RecoverRecipe, batches_of
from lpqld.models import Teacher, TeacherSpec, build, choose_device, slower_in_bfloat16, uses_bfloat16


@dataclass(frozen=True)
class Case:
    """A teacher, and a batch of so many images of each of some classes."""

    architecture: str
    size: int
    num_classes: int
    ipc: int

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.size}px-{self.num_classes * self.ipc}"


CASES = (
    Case("cifar_resnet20", 32, 1, 10),
    Case("cifar_resnet20", 32, 10, 10),
    Case("resnet18", 64, 5, 10),
    Case("resnet18", 224, 1, 10),
)
_GROWTH = ((8, 10), (16, 10), (32, 10), (8, 20), (8, 40))  # classes and images of each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of the process: 1 as a worker of a CPU has")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=20, help="of a round")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="some cases")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device()
    chosen = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    document = {
        "benchmark": "recover_speed",
        "cpu": cpu_name(),
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else str(device),
        "versions": versions(),
        "cases": [measure(case, arguments.iterations, arguments.rounds, device) for case in chosen],
        "growth": growth(arguments.iterations, device),
    }
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def measure(case: Case, iterations: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Images per second and iteration, bare and whole."""
    recoverer, statistics_of = made_up(case, iterations, device)
    batch = Batch(np.repeat(np.arange(case.num_classes), case.ipc), np.tile(np.arange(case.ipc), case.num_classes))
    found = statistics_of(batch.class_ids)
    bare = bare_passes(case, iterations, device)
    jobs: tuple[Callable[[], object], ...] = (bare, lambda: recoverer.recover(batch, found))
    for job in jobs:
        job()
    seconds = [[timed(job) for job in jobs] for _ in range(rounds)]
    alone, whole = (statistics.median(column) for column in zip(*seconds, strict=True))
    images = len(batch.classes) * iterations
    return {
        "case": case.name,
        "bfloat16": precision_of(case, device),
        "ratio": alone / whole,
        "ratios": [one / other for one, other in seconds],
        "bare_images_per_second": images / alone,
        "images_per_second": images / whole,
    }


def made_up(case: Case, iterations: int, device: torch.device) -> tuple[Recoverer, Callable[[Any], ClassStatistics]]:
    """A recoverer with an untrained teacher, and statistics of any classes."""
    teacher = Teacher(build(case.architecture, 1000), TeacherSpec(case.architecture, 1000))
    recoverer = Recoverer(teacher, RecoverRecipe(iterations=iterations), case.size, device)
    return recoverer, lambda class_ids: ClassStatistics.standard(class_ids, recoverer.channels)


def bare_passes(case: Case, iterations: int, device: torch.device) -> Callable[[], None]:
    """The network's passes alone, as many images and iterations."""
    network = build(case.architecture, 1000).to(device).to(memory_format=torch.channels_last).eval()
    network.requires_grad_(False)
    count = case.num_classes * case.ipc
    images = torch.randn(count, 3, case.size, case.size, device=device).contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    classes, bfloat16 = torch.zeros(count, dtype=torch.long, device=device), precision_of(case, device)

    def run() -> None:
        for _ in range(iterations):
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = network(images)
            F.cross_entropy(logits.float(), classes).backward()
            images.grad = None
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def precision_of(case: Case, device: torch.device) -> bool:
    return uses_bfloat16("auto", slower_in_bfloat16(build(case.architecture, 1000)), device)


def growth(iterations: int, device: torch.device) -> list[dict[str, Any]]:
    """Seconds an image and iteration, and memory, of whole jobs in batches as the package has them."""
    rows = []
    process = psutil.Process()
    for num_classes, ipc in _GROWTH:
        case = replace(CASES[1], num_classes=num_classes, ipc=ipc)
        recoverer, statistics_of = made_up(case, iterations, device)
        batches = batches_of(num_classes, ipc, RecoverRecipe(iterations=iterations, batch_size=40))
        recoverer.recover(batches[0], statistics_of(batches[0].class_ids))
        start = time.perf_counter()
        for batch in batches:
            recoverer.recover(batch, statistics_of(batch.class_ids))
        seconds = time.perf_counter() - start
        rows.append(
            {
                "num_classes": num_classes,
                "ipc": ipc,
                "batch_size": len(batches[0].classes),
                "microseconds_an_image_and_iteration": 1e6 * seconds / (num_classes * ipc * iterations),
                "resident_bytes": process.memory_info().rss,
            }
        )
    return rows


def as_text(document: dict[str, Any]) -> str:
    lines = [f"{document['cpu']}, {document['device']}, {document['threads']} threads"]
    lines += [
        f"{case['case']}: {case['images_per_second']:.0f} images a second and iteration, bare "
        f"{case['bare_images_per_second']:.0f}: ratio {case['ratio']:.3f} ({min(case['ratios']):.3f} to "
        f"{max(case['ratios']):.3f}){', bfloat16' if case['bfloat16'] else ''}"
        for case in document["cases"]
    ]
    lines += [
        f"{row['num_classes']} classes x {row['ipc']} in batches of {row['batch_size']}: "
        f"{row['microseconds_an_image_and_iteration']:.0f} us an image and iteration, "
        f"{row['resident_bytes'] / 1e6:.0f} MB"
        for row in document["growth"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
