"""Temperatures: the teacher's falls over training (DKR), the student's is calibrated to it (CA)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lpqld.errors import ConfigError
from lpqld.training.targets import SoftTargets

TemperatureSchedule = Callable[[int], float]
_DECAY = 0.7
_STEPS_PER_TRAINING = 10
_SMALLEST = 0.01
_LARGEST = 100.0
_NEWTON_STEPS = 25


def constant(temperature: float) -> TemperatureSchedule:
    """The same temperature in every epoch."""
    return lambda _epoch: temperature


def step(start: float, end: float, num_epochs: int) -> TemperatureSchedule:
    """max(start * 0.7 ** floor(e / s), end), s a tenth of the epochs: LPQLD's DKR (arXiv 2604.18135)."""
    interval = num_epochs / _STEPS_PER_TRAINING
    return lambda epoch: max(start * _DECAY ** math.floor(epoch / interval), end)


def cosine(start: float, end: float, num_epochs: int) -> TemperatureSchedule:
    """Half a cosine from `start` at epoch 0 to `end` at `num_epochs`.

    Example:
        >>> schedule = cosine(20.0, 1.0, num_epochs=100)
        >>> schedule(0), schedule(100)
        (20.0, 1.0)
    """
    return lambda epoch: end + (start - end) * (1 + math.cos(math.pi * epoch / num_epochs)) / 2


CONSTANT = "constant"
_SHAPES = {"step": step, "cosine": cosine}


def parse_schedule(spec: str, num_epochs: int) -> TemperatureSchedule:
    """The teacher's temperature per epoch: `20` constant, `20:2:step`, `20:2:cosine`, `2:20:step` reversed.

    A reversed schedule's temperature at epoch e is the forward schedule's at num_epochs - 1 - e.

    Raises:
        ConfigError: another form, or a temperature that is not a positive number.
    """
    start, end, shape = schedule_parts(spec)
    if shape == CONSTANT:
        return constant(start)
    if start >= end:
        return _SHAPES[shape](start, end, num_epochs)
    forward = _SHAPES[shape](end, start, num_epochs)
    return lambda epoch: forward(num_epochs - 1 - epoch)


def schedule_parts(spec: str) -> tuple[float, float, str]:
    """The first temperature of a schedule, its last, and its shape: "constant", "step" or "cosine".

    Raises:
        ConfigError: as `parse_schedule`.
    """
    expected = "expected 20 (constant), 20:2:step, 20:2:cosine or, reversed, 2:20:step"
    parts = str(spec).split(":")
    try:
        temperatures = [float(part) for part in parts[:2]]
    except ValueError as error:
        raise ConfigError(f"temperature {spec!r} is not a schedule; {expected}") from error
    if len(parts) not in (1, 3) or not all(0 < value < math.inf for value in temperatures):
        raise ConfigError(f"temperature {spec!r} is not a schedule of positive numbers; {expected}")
    if len(parts) == 1:
        return temperatures[0], temperatures[0], CONSTANT
    if parts[2] not in _SHAPES:
        raise ConfigError(f"temperature {spec!r} has the unknown shape {parts[2]!r}; {expected}")
    return temperatures[0], temperatures[1], parts[2]


def fit_student_temperature(student_logits: torch.Tensor, targets: SoftTargets) -> float:
    """argmin over t in [0.01, 100] of KL(targets || softmax(student_logits / t)), by safeguarded Newton steps.

    With u = 1 / t the loss is mean(logsumexp(u s) - u <p, s>) + const, convex in u; its slope is
    mean(E_softmax(us)[s] - E_p[s]) and its curvature the mean variance of s under softmax(u s).

    Args:
        student_logits: [B, C].
        targets: of B views.
    """
    logits = student_logits.detach().double()
    expected = targets.expectation(logits).mean()
    low = 1 / _LARGEST
    high = 1 / _SMALLEST

    def slope_and_curvature(u: float) -> tuple[float, float]:
        probabilities = (logits * u).softmax(1)
        mean = (probabilities * logits).sum(1)
        variance = (probabilities * (logits - mean[:, None]) ** 2).sum(1)
        return float(mean.mean() - expected), float(variance.mean())

    if slope_and_curvature(low)[0] >= 0:
        return 1 / low
    if slope_and_curvature(high)[0] <= 0:
        return 1 / high
    u = 1.0
    for _ in range(_NEWTON_STEPS):
        slope, curvature = slope_and_curvature(u)
        low, high = (u, high) if slope < 0 else (low, u)
        proposal = u - slope / curvature if curvature > 0 else math.inf
        # Outside the bracket a Newton step is worth less than halving it, in log space: u spans four decades.
        following = proposal if low < proposal < high else math.sqrt(low * high)
        if abs(following - u) <= 1e-7 * u:
            return 1 / following
        u = following
    return 1 / u


def grid_losses(student_logits: torch.Tensor, targets: SoftTargets) -> torch.Tensor:
    """Sums over views of KL(targets || softmax(student_logits / t)) for t in 0.01, 0.02, ... 1.00, but for a constant.

    The paper's CA takes the t of the least. Arguments as `fit_student_temperature`.

    Returns:
        Float32 [100].
    """
    logits = student_logits.detach().float()
    inverse = 100 / torch.arange(1, 101, device=logits.device, dtype=torch.float32)
    expected = targets.expectation(logits).sum()
    return torch.stack([torch.logsumexp(logits * u, 1).sum() - u * expected for u in inverse])


def least_of_grid(losses: torch.Tensor) -> float:
    """The t of the least of `grid_losses`."""
    return (int(losses.argmin()) + 1) / 100
