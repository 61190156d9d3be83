"""How fast a device labels and trains, measured on untrained networks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lpqld.models import build
from lpqld.training import Recipe, SoftTargets, Student, kl_divergence
from sweeps.config import SweepConfig


def seconds_per_call(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median time of a call, warmed up, over about `seconds`."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 2:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def relabelled_views_per_second(
    config: SweepConfig, num_classes: int, size: int, device: torch.device, seconds: float
) -> float:
    """Views per second of the forward pass of a sweep's teacher.

    Args:
        size: side of the images in pixels, for a teacher that takes any.
        seconds: of the measurement, about.
    """
    side = config.teacher.input_size or size
    teacher = build(config.teacher.architecture or "convnet", num_classes).to(device).eval()
    views = torch.rand(config.relabel.batch_size, 3, side, side, device=device)

    def label() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            teacher(views)

    return config.relabel.batch_size / seconds_per_call(label, device, seconds)


def trained_views_per_second(
    recipe: Recipe, num_classes: int, size: int, device: torch.device, seconds: float
) -> float:
    """Views per second of a student's training step; arguments as of `relabelled_views_per_second`."""
    student = Student(recipe, num_classes, seed=0).to(device).train()
    inputs = torch.rand(recipe.batch_size, 3, size, size, device=device)
    ids = torch.zeros(recipe.batch_size, 1, dtype=torch.long, device=device)
    targets = SoftTargets(ids, torch.ones(recipe.batch_size, 1, device=device))

    def step() -> None:
        kl_divergence(student(inputs), targets, 1.0).backward()

    return recipe.batch_size / seconds_per_call(step, device, seconds)
