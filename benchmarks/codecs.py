"""Bytes and speed of top-k labels: ours beside their order-0 entropy, the reference's layout, and other codecs.

Run as `python benchmarks/codecs.py [--json] [--views N] [--logits FILE.npz]`. Labels: the real ones of 1,000 classes
at `LPQLD_SHARED_DATA` or `../shared/data` where they are, else made-up ones; 10,450 classes made out of either (see
made_labels.py). One thread; rates count the process's CPU seconds, so that other load on the machine does not, and are
medians of rounds in which everything takes its turn. Ends with an error where any codec does not give back its input.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics as medians
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import torch
from codec_peers import TorchFiles, peers_for
from fixed_cost import fixed_cost
from kept_labels import Kept, check_decoded, order0_bytes, select, uniform_set_bytes
from made_labels import finer, from_nothing, rebuilt, statistics
from numpy.typing import NDArray
from real_data import DATA

from lpqld.codecs import TopK

STEP = 0.25
SEED = 0
_REAL_LABELS = Path("logits") / "in1k-logits.npz"
_NUM_VIEWS, _MANY_CLASSES = 3000, 10_450
_Job = tuple[str, str]  # who, and what


class Case(NamedTuple):
    """Labels to store, and what the reference was measured to take for such ones."""

    name: str
    logits: NDArray[np.float32]
    k: int
    reference: TorchFiles
    reference_published_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--logits", type=Path, help="npz with an array `logits` [N, 1000]")
    parser.add_argument("--views", type=int, default=_NUM_VIEWS, help="labels of each kind, at most (default: 3000)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    source, logits = labels(arguments.logits, arguments.views)
    many = finer(logits, _MANY_CLASSES, seed=SEED)
    cases = [
        Case("1,000 classes, top 50", logits, 50, TorchFiles(batch_size=128), 236),
        Case("1,000 classes, top 10", logits, 10, TorchFiles(batch_size=128), 76),
        Case("10,450 classes, top 200", many, 200, TorchFiles(batch_size=32, cutout=True), 903),
    ]
    try:
        results = [measure(case, arguments.repeats) for case in cases]
    except ValueError as error:
        sys.exit(f"benchmarks/codecs.py: {error}")
    document = {
        "benchmark": "codecs",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
        "clock": "CPU seconds of the process, one thread, medians",
        "repeats": arguments.repeats,
        "labels": {
            "source": source,
            "seed": SEED,
            "num_views": len(logits),
            "step": STEP,
            "statistics": {
                "1,000 classes": described(logits, 50),
                "1,000 classes made of every tenth of them": described(rebuilt(logits, seed=SEED), 50),
                "10,450 classes made of them": described(many, 200),
            },
        },
        "cases": results,
        "fixed_cost": fixed_cost(logits, TopK(50, STEP)),
    }
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def labels(path: Path | None, num_views: int) -> tuple[str, NDArray[np.float32]]:
    """Where the labels of 1,000 classes are from, and the first `num_views` of them."""
    if path is None:
        path = DATA / _REAL_LABELS
        if not path.is_file():
            return "made up, no data (made_labels.from_nothing)", from_nothing(num_views, seed=SEED)
    with np.load(path) as arrays:
        return f"from {path.name}", arrays["logits"][:num_views].astype(np.float32)


def described(logits: NDArray[np.float32], k: int) -> dict[str, object]:
    """Statistics of labels, and our bytes: made-up labels should be as hard to compress as real ones."""
    num_bytes = len(TopK(k, STEP).encode(logits))
    return {**statistics(logits, k, STEP), "ours_bytes_per_view": num_bytes / len(logits)}


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Bytes and rates of our codec and of all peers on the same labels, each checked to give them back.

    Raises:
        ValueError: one of them does not.
    """
    kept = Kept.of(case.logits, case.k, STEP)
    num_views, num_classes, k = kept.num_views, kept.num_classes, kept.k
    codec, dense = TopK(k, STEP), torch.from_numpy(case.logits)
    ids, halves = torch.from_numpy(kept.ids), torch.from_numpy(kept.values).half()
    payload, files = codec.encode(case.logits), case.reference.encode(ids, halves)
    check_decoded(kept, codec.decode(payload, num_views=num_views, num_classes=num_classes))
    back = case.reference.decode(files)
    if not torch.equal(back[0].int(), ids) or not torch.equal(back[1], halves):
        raise ValueError(f"{case.reference.name} does not give back its input")
    sizes = {"ours": len(payload), "reference": sum(len(content) for content in files)}
    jobs: dict[_Job, Callable[[], object]] = {
        ("selection", "encode"): lambda: select(dense, k, STEP),
        ("ours", "encode dense"): lambda: codec.encode(case.logits),
        ("ours", "encode"): lambda: codec.encode(kept.logits, num_classes=num_classes),
        ("ours", "decode"): lambda: codec.decode(payload, num_views=num_views, num_classes=num_classes),
        ("reference", "encode dense"): lambda: case.reference.encode(*reversed(torch.topk(dense, k))),
        ("reference", "encode"): lambda: case.reference.encode(ids, halves),
        ("reference", "decode"): lambda: case.reference.decode(files),
    }
    for peer in peers_for(kept):
        content = peer.encode(kept)
        symbols = peer.decode(content, num_views, k, num_classes)
        if not all(np.array_equal(*pair) for pair in zip(symbols, (kept.ids, kept.steps), strict=True)):
            raise ValueError(f"{peer.name} does not give back its input")
        sizes[peer.name] = len(content)
        jobs[peer.name, "encode"] = lambda peer=peer: peer.encode(kept)
        jobs[peer.name, "decode"] = lambda peer=peer, content=content: peer.decode(content, num_views, k, num_classes)
    rates = views_per_second(jobs, num_views, repeats)

    def after_selection(name: str) -> float:
        return 1 / (1 / rates["selection", "encode"] + 1 / rates[name, "encode"])

    entropy, ours = order0_bytes(kept), sizes["ours"] / num_views
    rows = [
        {
            "name": {"ours": "lpqld TopK", "reference": case.reference.name}.get(name, name),
            "bytes_per_view": size / num_views,
            "encode_from_all_logits_views_per_second": rates.get((name, "encode dense"), after_selection(name)),
            "encode_views_per_second": rates[name, "encode"],
            "decode_views_per_second": rates[name, "decode"],
        }
        for name, size in sizes.items()
    ]
    if not any(row["name"].startswith("constriction") for row in rows):
        rows.append({"name": "constriction", "skipped": "not installed; pip install constriction"})
    return {
        "name": case.name,
        "num_views": num_views,
        "num_classes": num_classes,
        "k": k,
        "step": STEP,
        "size": {
            "ours_bytes_per_view": ours,
            "order0_bytes_per_view": entropy,
            "ours_to_order0": ours / entropy["total"],
            "reference_bytes_per_view": sizes["reference"] / num_views,
            "reference_published_bytes_per_view": case.reference_published_bytes,
            "uniform_set_bytes_per_view": uniform_set_bytes(num_classes, k),
        },
        "side_by_side": rows,
        "speed": {
            "selection_views_per_second": rates["selection", "encode"],
            **{
                f"{task}_views_per_second": {
                    "ours": rates["ours", job],
                    "reference": rates["reference", job],
                    "ratio": rates["ours", job] / rates["reference", job],
                }
                for task, job in (("encode_from_all_logits", "encode dense"), ("decode", "decode"))
            },
        },
    }


def views_per_second(jobs: dict[_Job, Callable[[], object]], num_views: int, repeats: int) -> dict[_Job, float]:
    """Medians over rounds in which every job runs once, after a round that does not count."""
    seconds: dict[_Job, list[float]] = {job: [] for job in jobs}
    gc.collect()
    gc.disable()
    for _ in range(repeats + 1):
        for job, run in jobs.items():
            start = time.process_time()
            run()
            seconds[job].append(time.process_time() - start)
    gc.enable()
    return {job: num_views / medians.median(times[1:]) for job, times in seconds.items()}


def hardware() -> dict[str, Any]:
    """The machine, as far as it decides the rates."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    memory = psutil.virtual_memory().total
    return {"cpu": model, "cores": os.cpu_count(), "memory_bytes": memory, "system": platform.system(), "threads": 1}


def versions() -> dict[str, str | None]:
    """Of Python and the libraries that do the work; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("lpqld", "numpy", "numba", "torch", "pyarrow", "constriction"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def as_text(document: dict[str, Any]) -> str:
    """Tables of what the document holds."""
    machine = document["hardware"]
    lines = [f"{machine['cpu']}, one thread; {document['labels']['num_views']} labels, {document['labels']['source']}"]
    for case in document["cases"]:
        size, speed = case["size"], case["speed"]
        order0 = size["order0_bytes_per_view"]
        lines += [
            "",
            f"{case['name']}, step {case['step']:g}: {size['ours_bytes_per_view']:.1f} bytes a view, "
            f"{size['ours_to_order0']:.3f} of order-0 entropy {order0['total']:.1f} "
            f"(ids {order0['ids']:.1f}, values {order0['values']:.1f}); a uniform set's ids "
            f"{size['uniform_set_bytes_per_view']:.1f}; reference {size['reference_published_bytes_per_view']:g}",
            f"  {'views per second, from all logits or from those that are kept':<78}"
            f" {'bytes':>7} {'from all':>10} {'from kept':>10} {'decode':>10}",
        ]
        for row in case["side_by_side"]:
            if "skipped" in row:
                lines.append(f"  {row['name']:<78} {row['skipped']}")
                continue
            rates = [row[f"{task}_views_per_second"] for task in ("encode_from_all_logits", "encode", "decode")]
            numbers = " ".join(f"{rate:10,.0f}" for rate in rates)
            lines.append(f"  {row['name']:<78} {row['bytes_per_view']:7.1f} {numbers}")
        whole, decode = speed["encode_from_all_logits_views_per_second"], speed["decode_views_per_second"]
        lines.append(
            f"  ours to the reference: {whole['ratio']:.2f} times as fast from all logits, {decode['ratio']:.2f} to "
            f"decode; selection alone {speed['selection_views_per_second']:,.0f}"
        )
    lines.append("")
    for name, found in document["labels"]["statistics"].items():
        order0, ours = found["order0_bytes_per_view"]["total"], found["ours_bytes_per_view"]
        tops = ", ".join(f"{value:.1f}" for value in list(found["mean_logit_at_rank"].values())[:6])
        lines.append(
            f"{name}: top {found['k']} {order0:.1f} bytes at order 0, ours {ours:.1f}; mean logit at rank "
            f"1, 2, 5, 10, 20, 50: {tops}"
        )
    cost = document["fixed_cost"]
    parts = ", ".join(f"{name} {size:,} B" for name, size in cost["bytes"].items())
    lines += ["", f"a label set of {cost['num_views']} labels, {cost['num_images']} images, top {cost['k']}: {parts}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
