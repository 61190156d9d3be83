"""Views as Pillow and torchvision make them, which most of the field's labels were made on: for imported label sets.

Each crop is cut out and resized with 8 bits a channel, so that what lies beside it does not show; ours interpolates in
float32 and across the crop's edge. On real labels (docs/import.md) a recomputed logit is then off by 0.004 at most,
what fp16 rounds, instead of by 1.5.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lpqld._numba import in_threads
from lpqld.views.params import ViewParams
from lpqld.views.rendering import in_pixels


def render_as_pillow(pixels: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """Render views, in up to `torch.get_num_threads()` threads of a CPU.

    Args:
        pixels: uint8 [N, 3, S, S] on a CPU, the image set.
        params: B views; crops on whole pixels, else rounded to them, as torchvision does.

    Returns:
        float32 [B, 3, S, S] in [0, 1], channels last.
    """
    count, side = len(params), pixels.shape[-1]
    views: NDArray[np.float32] = np.empty((count, side, side, 3), dtype=np.float32)
    boxes, cutouts = in_pixels(params.box, side), in_pixels(params.cutout, side)
    source = pixels.numpy()

    def some(first: int, last: int) -> None:
        for view in range(first, last):
            own = _crop(source[params.rows[view]], params.crop[view], bool(params.flip[view]))
            top, left, bottom, right = boxes[view]
            mixed, lam = bottom > top and right > left, params.lam[view]
            out = views[view]
            out[:] = own
            if mixed or lam < 1:
                partner = _crop(
                    source[params.partner[view]], params.partner_crop[view], bool(params.partner_flip[view])
                )
                if mixed:
                    out[top:bottom, left:right] = partner[top:bottom, left:right]
                else:
                    out *= lam
                    out += (1 - lam) * partner.astype(np.float32)
            out /= 255
            top, left, bottom, right = cutouts[view]
            out[top:bottom, left:right] = params.color[view]

    in_threads(some, count, count * side * side)
    return torch.from_numpy(views).permute(0, 3, 1, 2)


def _crop(image: NDArray[np.uint8], crop: NDArray[np.float32], flip: bool) -> NDArray[np.uint8]:
    """A crop of [3, S, S], resized to the full side: [S, S, 3]."""
    side = image.shape[-1]
    top, left, height, width = np.rint(crop * np.float32(side)).astype(np.int64).tolist()
    part = np.ascontiguousarray(image[:, top : top + height, left : left + width].transpose(1, 2, 0))
    resized = np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR))
    return resized[:, ::-1] if flip else resized
