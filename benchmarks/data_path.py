"""Views per second beside the field's way of making them, in the same run: the data path alone, and with the network.

Run as `python benchmarks/data_path.py [--size 64] [--workers N] [--rounds N] [--no-network] [--json]`. Relabel: decode,
crop, mix, (teacher), store. Replay: load, crop, mix, (training step). The field's way is `field_loader.py`: PIL and
torchvision an image at a time in DataLoader workers, a torch file a batch. Ours holds decoded images, renders batches
in `--workers` threads, and stores shards. Same images, k, batch, network and machine; the data path runs without a
network, on logits that are given. The start of its loader's processes, until their first batch, is not counted, though
they go on with the next ones meanwhile; nor is our decoding, once a job. Everything takes its turn in every round;
ratios are of medians. Images are Tiny-ImageNet's or ImageNet-1K's where `LPQLD_SHARED_DATA` or `../shared/data` has
them, else noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import field_loader
import numpy as np
import torch
from label_students import cpu_name, versions
from PIL import Image
from real_data import DATA
from relabel_speed import noise

from lpqld.images import ImageSet
from lpqld.labels import Labeler, Labels, decode_shard, encode_shard, specify
from lpqld.models import Teacher, TeacherSpec, build
from lpqld.storage import write_atomically
from lpqld.training import Recipe, SoftTargets, Student, ViewDataset, kl_divergence
from lpqld.views import ViewRule, drawn_by

_K, _BATCH, _EPOCHS = 50, 100, 3
Rate = float  # views per second


class Ours:
    """Our data path, with the network or with given logits."""

    def __init__(self, images: ImageSet, network: Any, student: Any) -> None:
        self.images, self.student = images, student
        self.teacher = Teacher(network, TeacherSpec("resnet18", images.num_classes))
        self.device = choose_device()
        self.labeler = Labeler(self.teacher, images, ViewRule(), 0, self.device)
        self.spec = specify(
            self.teacher, images, ViewRule(), views_per_image=_EPOCHS, seed=0, batch_size=_BATCH, codec="topk", k=_K,
            device=self.device, shard_views=images.num_images * _EPOCHS,
        )  # fmt: skip
        self.given = np.random.default_rng(0).normal(size=(_BATCH, images.num_classes)).astype(np.float32)
        self.views = drawn_by(ViewRule(), 0).of(images)

    def relabel(self, folder: Path, with_network: bool) -> Rate:
        """Label every view."""
        start = time.perf_counter()
        if with_network:
            content = self.labeler.shard(self.spec, 0)
        else:
            drawn, parts = self.views.draw(np.arange(self.spec.num_views)), []
            for at in range(0, len(drawn), _BATCH):
                batch = drawn.take(slice(at, at + _BATCH))
                self.labeler.bank.render(batch)
                parts.append(self.spec.codec.keep(self.given[: len(batch)]))
            content = encode_shard(self.spec, 0, type(parts[0]).concatenate(parts))
        write_atomically(folder / "shard", content)
        return self.spec.num_views / (time.perf_counter() - start)

    def replay(self, folder: Path, with_network: bool) -> Rate:
        """Read the labels and train on them."""
        start = time.perf_counter()
        content = (folder / "shard").read_bytes()
        labels = Labels.of_shards(self.spec, [decode_shard(self.spec, 0, content)])
        data = ViewDataset(self.images, labels, self.device)
        for epoch in range(_EPOCHS):
            for batch in data.epoch(epoch, _BATCH):
                targets = batch.soft_targets(4.0)
                if with_network:
                    self.student(batch.views, targets)
        return len(data) / (time.perf_counter() - start)


class Field:
    """The field's data path on the same images, as files."""

    def __init__(self, images: ImageSet, files: list[Path], network: Any, student: Any, workers: int) -> None:
        self.images, self.files, self.network, self.student = images, files * _EPOCHS, network, student
        self.workers, self.device = workers, choose_device()
        self.order = [int(index) for index in torch.randperm(len(self.files))]

    def relabel(self, folder: Path, with_network: bool) -> Rate:
        """Label every view."""
        teacher = self._teacher if with_network else None
        size, classes = self.images.size, self.images.num_classes
        return steady(field_loader.relabel(self.files, size, _BATCH, _K, folder, teacher, self.workers, classes))

    def replay(self, folder: Path, with_network: bool) -> Rate:
        """Read the labels and train on them."""
        train = self._train if with_network else None
        size = self.images.size
        return steady(field_loader.replay(self.files, self.order, size, _BATCH, folder, train, self.workers))

    @torch.inference_mode()
    def _teacher(self, views: torch.Tensor) -> torch.Tensor:
        views = views.to(self.device)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            return self.network(views).float().cpu()

    def _train(self, views: torch.Tensor, ids: torch.Tensor, values: torch.Tensor) -> None:
        ids, values = ids.to(self.device), values.to(self.device)
        self.student(views.to(self.device), SoftTargets.softmax(ids, values, None, self.images.num_classes, 4.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64, 224], help="pixels (default: 32 64 224)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="loader processes; threads of ours")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-network", action="store_true", help="the data path only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.workers)
    networks = [False] if arguments.no_network else [False, True]
    cases = [measure(size, arguments.images, arguments.workers, arguments.rounds, networks) for size in arguments.size]
    document = {"benchmark": "data_path", "cpu": cpu_name(), "versions": versions(), "cases": cases}
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def measure(size: int, num_images: int, workers: int, rounds: int, networks: list[bool]) -> dict[str, Any]:
    """Views per second of both ways at one size."""
    images, device = open_images(size, num_images), choose_device()
    network = build("resnet18", images.num_classes).to(device, memory_format=torch.channels_last).eval()
    step = training_step(images.num_classes, device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = list(write_files(images, root / "images"))
        ways: dict[str, Ours | Field] = {
            "ours": Ours(images, network, step),
            "field": Field(images, files, network, step, workers),
        }
        jobs: dict[tuple[str, str, bool], Callable[[], Rate]] = {}
        for with_network in networks:
            for name, way in ways.items():
                labels = root / f"{name}-{with_network}"
                labels.mkdir()
                jobs[name, "relabel", with_network] = partial(way.relabel, labels, with_network)
                jobs[name, "replay", with_network] = partial(way.replay, labels, with_network)
        for job in jobs.values():
            job()  # compiles, and warms what is cached
        found: dict[tuple[str, str, bool], list[Rate]] = {key: [] for key in jobs}
        for _ in range(rounds):
            for key, job in jobs.items():
                found[key].append(job())
    rates = {key: statistics.median(values) for key, values in found.items()}
    rows = [
        {
            "task": task,
            "network": "resnet18" if with_network else None,
            "views_per_second": rates["ours", task, with_network],
            "field_views_per_second": rates["field", task, with_network],
            "ratio": rates["ours", task, with_network] / rates["field", task, with_network],
        }
        for with_network in networks
        for task in ("relabel", "replay")
    ]
    return {"size": size, "num_images": images.num_images, "workers": workers, "device": str(device), "rows": rows}


def steady(batches: Iterator[int]) -> Rate:
    """Views per second after the first batch."""
    next(batches)
    start = time.perf_counter()
    return sum(batches) / (time.perf_counter() - start)


def open_images(size: int, num_images: int) -> ImageSet:
    """Real photos where they are."""
    source = DATA / ("tiny200/train.parquet" if size <= 64 else "in1k-sample/in1k-sample-224.parquet")
    if not source.exists():
        return noise(num_images, size, min(200, num_images))
    images = ImageSet.open(str(source), size=size)
    return images.take(np.arange(images.num_images)[:: max(1, images.num_images // num_images)][:num_images])


def write_files(images: ImageSet, folder: Path) -> Iterator[Path]:
    """JPEG files of quality 95, as distilled images are published."""
    folder.mkdir()
    for index, pixels in enumerate(images.pixels.numpy()):
        path = folder / f"{index:06d}.jpg"
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path, quality=95)
        yield path


def training_step(num_classes: int, device: torch.device) -> Callable[..., None]:
    """One step of a ResNet-18 student, the same for both ways."""
    student = Student(Recipe(architecture="resnet18"), num_classes, 0).to(device).train()
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)

    def step(views: torch.Tensor, targets: SoftTargets) -> None:
        kl_divergence(student(views), targets, 1.0).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_text(document: dict[str, Any]) -> str:
    lines = []
    for case in document["cases"]:
        lines.append(f"{case['size']} px, {case['num_images']} images, {case['workers']} workers, {case['device']}:")
        for row in case["rows"]:
            what = f"{row['task']}, {row['network'] or 'data path alone'}"
            rates = f"{row['views_per_second']:.0f} views a second, the field's way {row['field_views_per_second']:.0f}"
            lines.append(f"  {what}: {rates}: {row['ratio']:.2f} x")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
