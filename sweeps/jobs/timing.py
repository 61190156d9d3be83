"""How long a call takes on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


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
