"""In which precision a network runs on a device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]


def uses_bfloat16(precision: Precision, depthwise: bool, device: torch.device) -> bool:
    """Whether a network runs in bfloat16 (autocast) on `device`.

    Of precision "auto" it does so on CUDA, and on a CPU that has instructions for it unless the network is `depthwise`
    (docs/method.md has the measurement).
    """
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" or (device.type == "cpu" and not depthwise and _cpu_has_bfloat16())


def is_depthwise(network: nn.Module) -> bool:
    """Whether it has depthwise convolutions, or grouped ones."""
    return any(module.groups > 1 for module in network.modules() if isinstance(module, nn.Conv2d))


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
