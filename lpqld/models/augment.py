"""Shifted and mirrored images, for the training of a teacher."""

from __future__ import annotations

import torch


def augmented(pixels: torch.Tensor, flip: bool, max_shift: int, draws: torch.Generator) -> torch.Tensor:
    """Each image shifted and, half of them, mirrored at random.

    Args:
        pixels: uint8 [B, 3, S, S].
        flip: whether to mirror.
        max_shift: pixels that an image moves at most, each way, its edge repeated; 0 for none.
        draws: of the CPU, whatever device the pixels are on, so that every device draws alike.
    """
    if max_shift:
        pixels = _shifted(pixels, max_shift, draws)
    if flip:
        is_mirrored = (torch.rand(len(pixels), generator=draws) < 0.5).to(pixels.device)
        pixels = torch.where(is_mirrored[:, None, None, None], pixels.flip(-1), pixels)
    return pixels


def _shifted(pixels: torch.Tensor, max_shift: int, draws: torch.Generator) -> torch.Tensor:
    count, _, size, _ = pixels.shape
    top, left = torch.randint(0, 2 * max_shift + 1, (2, count), generator=draws).to(pixels.device)
    steps = torch.arange(size, device=pixels.device)
    rows = (top[:, None] - max_shift + steps).clamp(0, size - 1)
    columns = (left[:, None] - max_shift + steps).clamp(0, size - 1)
    index = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
