"""What fits where: pixels on the device, in the host's memory, or in a mapped file."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError

ImageMemory = Literal["device", "shared", "streamed"]
IMAGE_MEMORIES: tuple[ImageMemory, ...] = get_args(ImageMemory)

# What else wants room: the network and its activations on the device; labels and other processes on the host.
_DEVICE_SHARE, _HOST_SHARE = 0.5, 0.5
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def choose_memory(pixel_bytes: int, *, device_bytes: int | None, host_bytes: int) -> ImageMemory:
    """Where so many bytes of pixels go.

    Args:
        pixel_bytes: N * 3 * S * S.
        device_bytes: free on the accelerator; None where networks run on the CPU.
        host_bytes: free on the host.

    Returns:
        "device" (its memory), "shared" (the host's, one copy a node) or "streamed" (a mapped file).
    """
    if device_bytes is not None and pixel_bytes <= _DEVICE_SHARE * device_bytes:
        return "device"
    return "shared" if pixel_bytes <= _HOST_SHARE * host_bytes else "streamed"


def memory_words(memory: ImageMemory) -> str:
    """Where pixels are, for people."""
    words: dict[ImageMemory, str] = {
        "device": "on the device",
        "shared": "in the host's memory, one copy a node",
        "streamed": "streamed from a mapped file",
    }
    return words[memory]


def parse_memory(text: str) -> ImageMemory | None:
    """One of `IMAGE_MEMORIES`; None for "auto".

    Raises:
        ConfigError: it is none of these.
    """
    for memory in IMAGE_MEMORIES:
        if text == memory:
            return memory
    if text == "auto":
        return None
    raise ConfigError(f"`memory` must be auto, {', '.join(IMAGE_MEMORIES)}; found {text!r}")


def free_device_bytes(device: torch.device) -> int | None:
    """Free memory of an accelerator that has its own; None for a CPU and for devices that share the host's."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def free_host_bytes() -> int:
    """Memory that this process may still take: the machine's, or its control group's where that is less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((_CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def mapped_array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Zeros in a temporary file (in `tempfile.gettempdir()`) that is gone when nobody uses the array any more.

    Raises:
        ConfigError: the file system has no room for it.
    """
    num_bytes = math.prod(shape)
    try:
        with tempfile.NamedTemporaryFile(prefix="lpqld-images-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)  # a full disk is found now, not by a bus error later
            return np.memmap(file.name, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise ConfigError(
            f"no room for {format_bytes(num_bytes)} of decoded images in {tempfile.gettempdir()} ({error.strerror}):"
            " set TMPDIR to a folder that has"
        ) from error
