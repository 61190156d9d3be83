"""In which precision and memory layout a network runs on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lpqld.models.choices import Precision


def uses_bfloat16(precision: Precision, slower: bool, device: torch.device) -> bool:
    """Whether a network runs in bfloat16 (autocast) on `device`.

    Of precision "auto" it does so on CUDA, and on a CPU that is faster so unless the network is `slower` there
    (docs/method.md has the measurements).
    """
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cuda" or (device.type == "cpu" and not slower and cpu_gains(torch.cpu.get_capabilities()))


def slower_in_bfloat16(network: nn.Module) -> bool:
    """Whether it has layers that bfloat16 slows down on CPUs: depthwise or grouped convolutions."""
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())


def layout_of(network: nn.Module) -> torch.memory_format:
    """How weights and views lie: channels last, but for group norm, which is slow so, most of all in bfloat16."""
    grouped = any(isinstance(module, nn.GroupNorm) for module in network.modules())
    return torch.contiguous_format if grouped else torch.channels_last


def cpu_gains(capabilities: Mapping[str, Any]) -> bool:
    """Whether a CPU of `torch.cpu.get_capabilities()` is faster in bfloat16.

    Expected with AMX; with AVX512-BF16 alone AMD's were measured to be, and Intel's not to be.
    """
    alone = capabilities.get("avx512_bf16") and "intel" not in str(capabilities.get("cpu_name", "")).lower()
    return bool(capabilities.get("amx_bf16") or alone)
