"""Training beside the bare forward-backward-step of the same student: the ratio, and where the rest goes.

Run as `python benchmarks/train_speed.py [--only CASE] [--threads N] [--rounds N] [--json]`. In turns: the bare step, of
the same network, batch size, precision, memory layout and fused AdamW, with cross-entropy on one normalised batch that
lies ready in memory; and an epoch of `lpqld.training.train` of as many steps, which renders views, makes targets from
top-10 labels, and takes its divergence. The ratio is the median over turns; with it, the calibration of a set of 2,000
images is added to our side. Parts are timed alone, in microseconds a view. Noise for images, made-up labels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from label_students import cpu_name, versions
from relabel_speed import noise

from lpqld.codecs import Logits, TopK
from lpqld.labels import Labels, specify
from lpqld.models import Teacher, TeacherSpec, accuracy, build
from lpqld.training import (
    CalibrationPlan,
    Recipe,
    Student,
    ViewDataset,
    fit_on_views,
    kl_divergence,
    make_optimizer,
    train,
)
from lpqld.views import ViewRule

_K, _TEMPERATURE, _CALIBRATED_IMAGES, _EVALUATED_IMAGES = 10, 4.0, 2000, 200


@dataclass(frozen=True)
class Case:
    """A student, its images, and the steps of a turn."""

    architecture: str
    size: int
    num_classes: int
    batch_size: int
    num_steps: int
    needs_cuda: bool = False


CASES = {
    "cifar_resnet20-32": Case("cifar_resnet20", 32, 100, 100, 8),
    "tiny_resnet18-64": Case("tiny_resnet18", 64, 200, 32, 3),
    "tiny_resnet18-64-cuda": Case("tiny_resnet18", 64, 200, 256, 30, needs_cuda=True),
    "resnet18-224-cuda": Case("resnet18", 224, 1000, 256, 20, needs_cuda=True),
    "convnet-8": Case("convnet", 8, 10, 100, 30),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all cores)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, help="of a turn")
    parser.add_argument("--precision", default="auto", help="float32, bfloat16 or auto, of both sides")
    parser.add_argument("--only", choices=CASES, help="one case")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    possible = [name for name, case in CASES.items() if device.type == "cuda" or not case.needs_cuda]
    wanted = [arguments.only] if arguments.only else possible
    cases = [
        measure(name, device, arguments.rounds, arguments.steps or CASES[name].num_steps, arguments.precision)
        for name in wanted
    ]
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name().removesuffix(", one thread")
    document = {
        "benchmark": "train_speed",
        "device": name,
        "threads": arguments.threads,
        "versions": versions(),
        "cases": cases,
    }
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def measure(name: str, device: torch.device, rounds: int, num_steps: int, precision: Any) -> dict[str, Any]:
    """Views per second of both sides, and the parts of ours."""
    case = CASES[name]
    num_views = num_steps * case.batch_size
    recipe = Recipe(
        architecture=case.architecture,
        epochs=rounds + 2,
        batch_size=case.batch_size,
        temperature=str(_TEMPERATURE),
        ca="off",
        precision=precision,
    )
    data, many = labelled(case, num_views, device), labelled(case, _CALIBRATED_IMAGES, device)
    bare, running = bare_step(case, recipe, device), train(Student(recipe, case.num_classes, 0), data, recipe, seed=0)

    def bare_steps() -> None:
        for _ in range(num_steps):
            bare()

    sides = {"bare": bare_steps, "ours": lambda: next(running)}
    for job in sides.values():
        timed(job, device)  # compiles, and warms what is cached
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, job in sides.items():
            found[side].append(timed(job, device))
    parts = timed_parts(case, recipe, data, many, device)
    ratio = statistics.median(bare / ours for bare, ours in zip(found["bare"], found["ours"], strict=True))
    bare_time = statistics.median(found["bare"]) / num_views * 1e6
    return {
        "case": name,
        **asdict(case),
        "num_steps": num_steps,
        "bfloat16": Student(recipe, case.num_classes, 0).uses_bfloat16(device),
        "bare_views_per_second": num_views / statistics.median(found["bare"]),
        "views_per_second": num_views / statistics.median(found["ours"]),
        "ratio": ratio,
        "ratio_with_calibration": 1 / (1 / ratio + parts["calibration"] / bare_time),
        "bare_microseconds_a_view": bare_time,
        "microseconds_a_view": parts,
    }


def labelled(case: Case, num_images: int, device: torch.device) -> ViewDataset:
    """Noise with one random top-10 label an image."""
    images = noise(num_images, case.size, case.num_classes)
    teacher = Teacher(build("convnet", case.num_classes), TeacherSpec("convnet", case.num_classes))
    cpu = torch.device("cpu")
    spec = specify(teacher, images, ViewRule(), views_per_image=1, seed=0, batch_size=100, device=cpu)
    draws = np.random.default_rng(0)
    ids = draws.random((num_images, case.num_classes)).argsort(1)[:, :_K].astype(np.int32)
    values = -np.sort(draws.exponential(2, (num_images, _K)), 1).astype(np.float32)
    return ViewDataset(images, Labels(replace(spec, codec=TopK(_K, 0.25)), Logits(ids, values)), device)


def bare_step(case: Case, recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """Forward, backward and step on one batch that lies ready."""
    student = Student(recipe, case.num_classes, 0).to(device).train()
    optimizer, network = make_optimizer(student, recipe), student.network
    inputs = torch.randn(case.batch_size, 3, case.size, case.size, device=device)
    inputs = inputs.to(memory_format=torch.channels_last)
    classes = torch.arange(case.batch_size, device=device) % case.num_classes

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=student.uses_bfloat16(device)):
            logits = network(inputs)
        F.cross_entropy(logits.float(), classes).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed_parts(
    case: Case, recipe: Recipe, data: ViewDataset, many: ViewDataset, device: torch.device
) -> dict[str, float]:
    """Microseconds a view of what each part of a step takes alone; the optimizer's are in the bare step too."""
    student = Student(recipe, case.num_classes, 0).to(device)
    positions = data.batches(0, case.batch_size)[0]
    batch = data[positions]
    targets = batch.soft_targets(_TEMPERATURE)
    logits = torch.randn(case.batch_size, case.num_classes, device=device, requires_grad=True)
    optimizer = make_optimizer(student, recipe)
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    plan = CalibrationPlan.for_images(_CALIBRATED_IMAGES)
    fitted_views = _CALIBRATED_IMAGES * plan.interval
    test = noise(_EVALUATED_IMAGES, case.size, case.num_classes)
    jobs: dict[str, tuple[Callable[[], object], int]] = {
        "views and labels": (lambda: data[positions], case.batch_size),
        "targets": (lambda: batch.soft_targets(_TEMPERATURE), case.batch_size),
        "normalisation": (lambda: (batch.views - student.mean) / student.std, case.batch_size),
        "divergence": (lambda: kl_divergence(logits, targets, 2.0).backward(), case.batch_size),
        "optimizer": (optimizer.step, case.batch_size),
        "calibration": (lambda: fit_on_views(student, many, recipe, 1, 0, _TEMPERATURE), fitted_views),
        "evaluation of an image": (lambda: accuracy(student, test), _EVALUATED_IMAGES),
    }
    found = {}
    for name, (job, num_views) in jobs.items():
        repeats = 2 if name in ("calibration", "evaluation of an image") else 5
        job()
        found[name] = statistics.median(timed(job, device) for _ in range(repeats)) / num_views * 1e6
    return found


def timed(job: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call; of one CPU thread those that it ran, so that other load on the machine does not count."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def as_text(document: dict[str, Any]) -> str:
    lines = [f"{document['device']}, {document['threads']} threads, torch {document['versions']['torch']}"]
    for case in document["cases"]:
        precision = "bfloat16" if case["bfloat16"] else "float32"
        lines += [
            f"{case['case']}, batch {case['batch_size']}, {precision}: {case['views_per_second']:,.1f} views/s of "
            f"{case['bare_views_per_second']:,.1f} bare: {case['ratio']:.3f}, calibrated "
            f"{case['ratio_with_calibration']:.3f}",
            *(
                f"  {name:24}{value:12,.1f} us a view {value / case['bare_microseconds_a_view']:8.1%} of the bare step"
                for name, value in case["microseconds_a_view"].items()
            ),
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
