"""Relabeling beside the bare teacher: the share of its rate that is left, and where the rest goes.

Run as `python benchmarks/relabel_speed.py [--threads N] [--rounds N] [--json]`. In one Ray worker, in turns: the
network alone on views that lie ready in memory, normalised; and `Labeler.shard` with writing, which draws and renders
the views, asks the same network in the same batches, keeps the 50 largest logits, encodes and writes. Ratios are of
medians over rounds; start-up is reported apart. Real images and weights where `LPQLD_SHARED_DATA` or `../shared/data`
has them, else noise and untrained networks of the same shapes. On a GPU the network runs in float16, as relabeling
has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from label_students import cpu_name, versions
from real_data import DATA

from lpqld.images import ImageSet
from lpqld.labels import Labeler, encode_shard, specify
from lpqld.models import Teacher, TeacherSpec, build, load_teacher
from lpqld.storage import write_atomically
from lpqld.views import ViewRule, drawn_by
from sweeps.cluster import cluster

_RULE, _SEED, _K = ViewRule(), 0, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the worker (default: all cores)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, help="labels a round (default: 2048 at 64 px, 256 at 224 px)")
    parser.add_argument("--only", choices=CASES, help="one case")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    start = time.perf_counter()
    gpus = 1 if torch.cuda.is_available() else 0
    with cluster("local"):
        seconds_to_ray = time.perf_counter() - start
        worker = ray.remote(num_cpus=arguments.threads, num_gpus=gpus, max_calls=1)(measure)
        cases = []
        for name in [arguments.only] if arguments.only else CASES:
            asked = time.time()
            case = ray.get(worker.remote(name, arguments.threads, arguments.rounds, arguments.views))
            case["seconds_to_first_labels"] = case.pop("first_labels_at") - asked + seconds_to_ray
            cases.append(case)
    document = {"benchmark": "relabel_speed", "cpu": cpu_name(), "versions": versions(), "cases": cases}
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def resnet18_64() -> tuple[ImageSet, Teacher, int, int]:
    """ResNet-18 at 64 px with 200 classes, on Tiny-ImageNet where it is there; batch 100."""
    source = DATA / "tiny200" / "train.parquet"
    images = ImageSet.open(str(source)).sample_per_class(10, 0) if source.exists() else noise(2000, 64, 200)
    network = build("resnet18", images.num_classes)
    return images, Teacher(network, TeacherSpec("resnet18", images.num_classes)), 100, 2000


def efficientnet_224() -> tuple[ImageSet, Teacher, int, int]:
    """EfficientNet-Lite0 at 224 px with 1,000 classes, the pretrained one where it is there; batch 32."""
    name, source = "tf_efficientnet_lite0", DATA / "in1k-sample" / "in1k-sample-224.parquet"
    if not source.exists():
        return noise(1000, 224, 1000), Teacher(build(name, 1000), TeacherSpec(name, 1000)), 32, 256
    images = ImageSet.open(str(source))
    teacher = load_teacher(
        DATA / "weights" / "tf_efficientnet_lite0_timm.pth",
        architecture=name,
        classes="imagenet-1k",
        image_class_names=images.class_names,
    )
    return images, teacher, 32, 256


CASES: dict[str, Callable[[], tuple[ImageSet, Teacher, int, int]]] = {
    "resnet18-64": resnet18_64,
    "efficientnet_lite0-224": efficientnet_224,
}


def measure(name: str, threads: int, rounds: int, views: int | None) -> dict[str, Any]:
    """One case, in this process."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, teacher, batch_size, shard_views = CASES[name]()
    shard_views = views or shard_views
    needed = -(-shard_views * (rounds + 1) // images.num_images)
    spec = specify(
        teacher,
        images,
        _RULE,
        views_per_image=needed,
        seed=_SEED,
        batch_size=batch_size,
        codec="topk",
        k=_K,
        bits=8,
        device=device,
        shard_views=shard_views,
    )
    labeler = Labeler(teacher, images, _RULE, _SEED, device)
    bank, first = labeler.bank, drawn_by(_RULE, _SEED).of(images).draw(np.arange(spec.shard_views))
    ready = [
        (bank.render(first.take(slice(at, at + batch_size))) - teacher.mean) / teacher.std
        for at in range(0, spec.shard_views, batch_size)
    ]
    ready = [batch.contiguous(memory_format=torch.channels_last) for batch in ready]
    with tempfile.TemporaryDirectory() as folder:

        def ours(index: int) -> None:
            write_atomically(Path(folder) / f"{index}", labeler.shard(spec, index))

        ours(0)
        first_labels_at = time.time()
        bare_seconds, our_seconds = [], []
        for index in range(1, rounds + 1):
            bare_seconds.append(timed(lambda: bare(teacher, ready, device)))
            our_seconds.append(timed(lambda index=index: ours(index)))  # type: ignore[misc]
        parts = parts_of(labeler, spec, images, Path(folder), device)
    return {
        "case": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": threads,
        "batch_size": batch_size,
        "labels_a_round": spec.shard_views,
        "ratio": statistics.median(bare_seconds) / statistics.median(our_seconds),
        "ratios": [one / other for one, other in zip(bare_seconds, our_seconds, strict=True)],
        "bare_views_per_second": spec.shard_views / statistics.median(bare_seconds),
        "views_per_second": spec.shard_views / statistics.median(our_seconds),
        "microseconds_a_view": {part: 1e6 * seconds / spec.shard_views for part, seconds in parts.items()},
        "first_labels_at": first_labels_at,
    }


@torch.inference_mode()
def bare(teacher: Teacher, ready: list[torch.Tensor], device: torch.device) -> None:
    """The network alone."""
    with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
        for batch in ready:
            teacher.model(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()


def parts_of(labeler: Labeler, spec: Any, images: ImageSet, folder: Path, device: torch.device) -> dict[str, float]:
    """Seconds of each part of a shard but the network, alone."""
    views = drawn_by(spec.view_rule, spec.seed).of(images)
    drawn = views.draw(np.arange(spec.shard_views))
    batches = [slice(at, at + spec.batch_size) for at in range(0, spec.shard_views, spec.batch_size)]
    logits = np.random.default_rng(0).normal(size=(spec.shard_views, spec.num_classes)).astype(np.float32)
    kept = spec.codec.keep(logits)
    content = encode_shard(spec, 0, kept)

    def render_all() -> None:
        for batch in batches:
            labeler.bank.render(drawn.take(batch))
        if device.type == "cuda":
            torch.cuda.synchronize()

    jobs: dict[str, Callable[[], object]] = {
        "draw": lambda: views.draw(np.arange(spec.shard_views)),
        "render": render_all,
        "keep the largest": lambda: [spec.codec.keep(logits[batch]) for batch in batches],
        "encode": lambda: encode_shard(spec, 0, kept),
        "write": lambda: write_atomically(folder / "again", content),
    }
    return {name: statistics.median(timed(job) for _ in range(3)) for name, job in jobs.items()}


def noise(num_images: int, size: int, num_classes: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (num_images, 3, size, size), dtype=np.uint8)
    labels, ids = torch.arange(num_images) % num_classes, np.arange(num_images)
    names = tuple(str(label) for label in range(num_classes))
    return ImageSet(torch.from_numpy(pixels), labels, names, ids, np.ones_like(ids), "noise")


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def as_text(document: dict[str, Any]) -> str:
    lines = []
    for case in document["cases"]:
        spread = f"{min(case['ratios']):.3f} to {max(case['ratios']):.3f}"
        lines += [
            f"{case['case']} on {case['device']}, {case['threads']} threads, batch {case['batch_size']}:",
            f"  {case['views_per_second']:.0f} labels a second, the network alone {case['bare_views_per_second']:.0f}:"
            f" ratio {case['ratio']:.3f} ({spread})",
            f"  first labels after {case['seconds_to_first_labels']:.1f} s",
            "  microseconds a view beside the network: "
            + ", ".join(f"{part} {value:.1f}" for part, value in case["microseconds_a_view"].items()),
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
