"""Milliseconds of a forward and backward pass in float32 and bfloat16, in both memory layouts: what `precision` picks.

Run as `python benchmarks/step_precision.py [--case NETWORK,SIDE,BATCH ...] [--rounds N] [--threads N] [--json]`. The
four take turns, on one batch of noise; the median of their times. The tables are in docs/method.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import product
from typing import Any

import torch
from label_students import cpu_name, versions

from lpqld.models import build

_CLASSES = 200
_CASES = (
    *("cifar_resnet20,32,10", "cifar_resnet20,32,50", "cifar_resnet56,32,50", "convnet,32,50"),
    *("convnet_d3,32,10", "convnet_d3,32,50", "tiny_resnet18,64,16", "mobilenetv2_100,64,32"),
)
_PRECISIONS = {"float32": False, "bfloat16": True}
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=_CASES, help="networks, sides in pixels and batch sizes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [measure(case, arguments.rounds) for case in arguments.case]
    document = {
        "benchmark": "step_precision",
        "device": cpu_name().removesuffix(", one thread"),
        "threads": arguments.threads,
        "versions": versions(),
        "cases": cases,
    }
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Of a network, side and batch size; a first turn of each is not counted."""
    name, side, batch = case.split(",")
    noise = torch.randn(int(batch), 3, int(side), int(side))
    networks = {layout: build(name, _CLASSES).train().to(memory_format=_LAYOUTS[layout]) for layout in _LAYOUTS}
    found: dict[str, list[float]] = {
        f"{precision}, {layout}": [] for layout, precision in product(_LAYOUTS, _PRECISIONS)
    }
    for _ in range(rounds + 1):
        for layout, (precision, bfloat16) in product(_LAYOUTS, _PRECISIONS.items()):
            images = noise.to(memory_format=_LAYOUTS[layout])
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = networks[layout](images)
            logits.float().sum().backward()
            found[f"{precision}, {layout}"].append(time.perf_counter() - start)
    milliseconds = {key: 1e3 * statistics.median(times[1:]) for key, times in found.items()}
    return {"case": case, "milliseconds": milliseconds}


def as_text(document: dict[str, Any]) -> str:
    """A table in Markdown."""
    heads = list(document["cases"][0]["milliseconds"])
    lines = [
        f"{document['device']}, {document['threads']} thread(s)",
        "",
        f"| network, side, batch | {' | '.join(heads)} |",
        "|---|" + "---:|" * len(heads),
    ]
    for case in document["cases"]:
        cells = " | ".join(f"{value:.0f}" for value in case["milliseconds"].values())
        lines.append(f"| {case['case'].replace(',', ', ')} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
