"""Milliseconds of a training step on one CPU where freed memory stays with the process, and where glibc returns it.

Run as `python benchmarks/kept_memory.py [--case NETWORK,SIDE,BATCH ...] [--rounds N] [--json]`. Processes of both kinds
take turns, each with steps of AdamW on one batch of noise; the median over processes. The table is in docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from label_students import cpu_name, versions
from torch.nn import functional

from lpqld._malloc import keep_freed_memory
from lpqld.models import build

_CLASSES = 200
_CASES = ("convnet,32,50", "cifar_resnet20,32,50", "tiny_resnet18,64,16", "convnet_d3,32,20", "convnet_d3,32,128")
_STEPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=_CASES, help="networks, sides in pixels and batch sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--one", choices=("kept", "returned"), help="one process: print its measurement")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(steps(arguments.case[0], kept=arguments.one == "kept")))
        return
    cases = [compare(case, arguments.rounds) for case in arguments.case]
    document = {"benchmark": "kept_memory", "device": cpu_name(), "versions": versions(), "cases": cases}
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def steps(case: str, *, kept: bool) -> dict[str, float]:
    """What a step of this process takes, first ones not counted, and the most memory it had."""
    torch.set_num_threads(1)
    if kept and not keep_freed_memory():
        raise SystemExit("the C library is not glibc: there is nothing to compare")
    name, side, batch = case.split(",")
    network = build(name, _CLASSES).train().to(memory_format=torch.channels_last)
    images = torch.randn(int(batch), 3, int(side), int(side)).to(memory_format=torch.channels_last)
    labels = torch.randint(0, _CLASSES, (int(batch),))
    optimizer = torch.optim.AdamW(network.parameters())
    seconds = []
    for _ in range(2 * _STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"milliseconds": 1e3 * statistics.median(seconds[_STEPS:]), "peak_mib": peak}


def compare(case: str, rounds: int) -> dict[str, Any]:
    """Medians over processes of a case, and what they are of each other."""
    found: dict[str, list[dict[str, float]]] = {"returned": [], "kept": []}
    for _ in range(rounds):
        for kind, values in found.items():
            line = [sys.executable, __file__, "--case", case, "--one", kind]
            values.append(json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout))
    medians = {
        f"{kind}_{key}": statistics.median(value[key] for value in values)
        for kind, values in found.items()
        for key in ("milliseconds", "peak_mib")
    }
    return {"case": case, **medians, "speed": medians["returned_milliseconds"] / medians["kept_milliseconds"]}


def as_text(document: dict[str, Any]) -> str:
    """A table in Markdown."""
    lines = [
        document["device"],
        "",
        "| network, side, batch | ms a step, memory returned | kept | speed | peak, MiB, returned | kept |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in document["cases"]:
        times = f"{case['returned_milliseconds']:.0f} | {case['kept_milliseconds']:.0f} | {case['speed']:.2f}"
        peaks = f"{case['returned_peak_mib']:.0f} | {case['kept_peak_mib']:.0f}"
        lines.append(f"| {case['case'].replace(',', ', ')} | {times} | {peaks} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
