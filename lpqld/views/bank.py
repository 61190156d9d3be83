"""An image set's pixels where a device can render views from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lpqld.byte_sizes import format_bytes
from lpqld.images import (
    ImageMemory,
    ImageSet,
    choose_memory,
    free_device_bytes,
    free_host_bytes,
    mapped_array,
    memory_words,
)
from lpqld.views.params import ViewParams
from lpqld.views.render_pillow import render_as_pillow
from lpqld.views.rendering import render
from lpqld.views.source import Views


class ImageBank:
    """Renders views of an image set on a device.

    With memory "device" the pixels are copied there (on a CPU: to this process's own memory). "shared" leaves them in
    the host's memory, where processes of one node can share them; "streamed" in a mapped file, of which the host's
    memory holds what there is room for. A device of another kind then gets a batch's images alone. The views are the
    same, bit for bit, on one device.

    Attributes:
        memory: where the pixels are.
        device: where views are rendered.
        pixel_bytes: bytes of all pixels.
        as_pillow: views are rendered as Pillow does it.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device,
        memory: ImageMemory | None = None,
        *,
        as_pillow: bool = False,
    ) -> None:
        """Put the pixels where views are rendered from.

        Args:
            images: the image set.
            device: where views are wanted.
            memory: None takes the device where there is room, and else leaves the pixels where `images` has them.
            as_pillow: render as `render_pillow` does, on a CPU whatever the device.
        """
        self.device, self.pixel_bytes, self.as_pillow = device, images.pixels.numel(), as_pillow
        self.memory = memory or ("shared" if as_pillow else fitting_memory(images, device))
        self._pixels = images.pixels
        if self.memory == "device":
            self._pixels = images.pixels.clone() if device.type == "cpu" else images.pixels.to(device)
        elif self.memory == "streamed" and not images.streamed:
            mapped = mapped_array(tuple(images.pixels.shape))
            mapped[:] = images.pixels.numpy()
            self._pixels = torch.from_numpy(mapped)
        self._in_place = self._pixels.device.type == device.type

    def __str__(self) -> str:
        return f"{format_bytes(self.pixel_bytes)} of pixels, {memory_words(self.memory)}"

    def render(self, params: ViewParams) -> torch.Tensor:
        """Views on the device, float32 [B, 3, S, S]; see `rendering.render`."""
        if self.as_pillow:
            return render_as_pillow(self._pixels, params).to(self.device)
        if self._in_place:
            return render(self._pixels, params)
        rows, places = np.unique(np.concatenate([params.rows, params.partner]), return_inverse=True)
        chosen = self._pixels[torch.from_numpy(rows)]
        if self.device.type == "cuda":
            chosen = chosen.pin_memory()
        own, partner = np.split(places.astype(np.int64), 2)
        return render(chosen.to(self.device, non_blocking=True), replace(params, rows=own, partner=partner))


def bank_of(views: Views, device: torch.device) -> ImageBank:
    """A bank that renders views as their source was made."""
    return ImageBank(views.images, device, as_pillow=views.source.as_pillow)


def fitting_memory(images: ImageSet, device: torch.device) -> ImageMemory:
    """Where the pixels of `images` are rendered from by default."""
    free = free_device_bytes(device)
    chosen = choose_memory(images.pixels.numel(), device_bytes=free, host_bytes=free_host_bytes())
    return "device" if chosen == "device" else "streamed" if images.streamed else "shared"
