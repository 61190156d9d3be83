"""Views as pixels: relabeling and training call the same `render`, so the student sees what the teacher labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lpqld._numba import in_threads
from lpqld.views.params import ViewParams
from lpqld.views.render_numba import render_views


def render(pixels: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """Render views, batched, on the device of `pixels`.

    Crops are resized to the full side by bilinear interpolation (never a shrinking one, so no antialiasing), then
    flipped, mixed, cut out. On a CPU that takes up to `torch.get_num_threads()` threads and a tenth of the time of the
    same in torch's own operations; the two agree but for rounding.

    Args:
        pixels: uint8 [N, 3, S, S], the image set.
        params: B views.

    Returns:
        float32 [B, 3, S, S] in [0, 1] in channels-last memory, which convolutions like best; not normalised: teacher
        and student normalise as each needs.
    """
    if pixels.device.type == "cpu":
        return _render_on_cpu(pixels, params)
    return render_in_torch(pixels, params).contiguous(memory_format=torch.channels_last)


def _render_on_cpu(pixels: torch.Tensor, params: ViewParams) -> torch.Tensor:
    num_views, side = len(params), pixels.shape[-1]
    views = torch.empty(num_views, side, side, 3)
    arguments = (
        params.rows,
        params.crop,
        params.flip,
        params.partner,
        params.partner_crop,
        params.partner_flip,
        params.lam,
        in_pixels(params.box, side),
        in_pixels(params.cutout, side),
        params.color,
        views.numpy(),
    )
    source = pixels.numpy()
    in_threads(lambda first, last: render_views(source, first, last, *arguments), num_views, num_views * side * side)
    return views.permute(0, 3, 1, 2)


def in_pixels(box: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """(top, left, bottom, right) in whole pixels, of boxes (top, left, height, width) in shares of the side, [B, 4]."""
    return np.rint(np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1) * np.float32(side)).astype(np.int64)


def render_in_torch(pixels: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """`render` in torch's own operations, for any device."""
    device, side = pixels.device, pixels.shape[-1]

    def on_device(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    views = _crop(pixels, on_device(params.rows), on_device(params.crop), on_device(params.flip))
    has_box, has_lam = params.box[:, 2:].any(), (params.lam < 1).any()
    if has_box or has_lam:
        partners = _crop(
            pixels, on_device(params.partner), on_device(params.partner_crop), on_device(params.partner_flip)
        )
        if has_box:
            views = torch.where(_box_mask(on_device(in_pixels(params.box, side)), side), partners, views)
        if has_lam:
            views = torch.lerp(partners, views, on_device(params.lam)[:, None, None, None])
    if params.cutout[:, 2:].any():
        mask = _box_mask(on_device(in_pixels(params.cutout, side)), side)
        views = torch.where(mask, on_device(params.color)[:, :, None, None], views)
    return views


def _crop(pixels: torch.Tensor, rows: torch.Tensor, crop: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Crop, resize to the full side and flip: float32 [B, 3, S, S] in [0, 1]."""
    return resized_crops(pixels[rows].to(torch.float32).div_(255), crop, flip).clamp_(0, 1)


def resized_crops(
    images: torch.Tensor, crop: torch.Tensor, flip: torch.Tensor, shift: torch.Tensor | None = None
) -> torch.Tensor:
    """Crops brought to the full side by bilinear interpolation, flipped, then shifted circularly; gradients pass.

    Args:
        images: float [B, 3, S, S].
        crop: (top, left, height, width) in shares of the side, [B, 4].
        flip: which to mirror, bool [B].
        shift: pixels down and right, int64 [B, 2].
    """
    side = images.shape[-1]
    top, left, height, width = crop[:, :, None].unbind(1)
    pixel = torch.arange(side, device=images.device)
    rows, columns = (pixel, pixel) if shift is None else ((pixel - shift[:, axis, None]) % side for axis in (0, 1))
    # grid_sample has the image from -1 to 1; pixel centres are at half pixels.
    down, right = ((2 * index + 1) / side - 1 for index in (rows, columns))
    y = down * height + (2 * top + height - 1)
    x = right * torch.where(flip[:, None], -width, width) + (2 * left + width - 1)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _box_mask(box: torch.Tensor, side: int) -> torch.Tensor:
    """True inside each box (top, left, bottom, right): bool [B, 1, S, S]."""
    index = torch.arange(side, device=box.device)
    inside = (index >= box[:, :2, None]) & (index < box[:, 2:, None])
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
