"""What a network says of images, and how many of them it gets right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lpqld.errors import DataError
from lpqld.images import ImageSet

_MOST_AT_ONCE = 1024
# Activations of a network that starts with 64 channels at full size, in float32 pixels of its input.
_ACTIVATIONS_PER_PIXEL = 64
_CPU_BYTES = 96 * 1024**2  # more at once leaves the cache, and is slower: 128 images of 32 px


def accuracy(
    model: nn.Module, images: ImageSet, batch_size: int | None = None, device: torch.device | str | None = None
) -> float:
    """Share of `images` whose largest logit is their label's, in [0, 1].

    Args:
        model: as `predict` takes it; in evaluation mode meanwhile, whatever mode it is in.
        images: N images.
        batch_size: images at once, 1 or more; None for what memory holds.
        device: where to run; None stays where the model is.

    Raises:
        DataError: there are no images, or the model has another number of classes.
    """
    if images.num_images == 0:
        raise DataError(f"{images.source}: expected images to measure accuracy on, found none")
    if device is not None:
        model.to(device)
    target = next(model.parameters()).device
    num_correct = torch.zeros((), dtype=torch.long, device=target)
    start = 0
    with _evaluating(model):
        for logits in predict(model, images, batch_size):
            if logits.shape[1] != images.num_classes:
                raise DataError(
                    f"{images.source} has {images.num_classes} classes and the model {logits.shape[1]}:"
                    " pass `classes=FILE`, or images of the model's classes"
                )
            end = start + len(logits)
            num_correct += (logits.argmax(1) == images.labels[start:end].to(target)).sum()
            start = end
    return int(num_correct) / images.num_images


@torch.inference_mode()
def predict(model: nn.Module, images: ImageSet, batch_size: int | None = None) -> Iterator[torch.Tensor]:
    """Logits [B, C] of `images`, batch after batch in their order, on the model's device.

    Args:
        model: takes pixels in [0, 1] as float [B, 3, S, S], as a `Teacher` does (wrap a bare network in one, with a
            spec, to have its pixels normalised), and returns a logit for each class of `images`. It runs in the mode
            that it is in.
        images: N images.
        batch_size: images at once, 1 or more; None for what memory holds.
    """
    device = next(model.parameters()).device
    size = min(batch_size or _affordable_batch(images.size, device), images.num_images)
    start = 0
    while start < images.num_images:
        pixels = images.pixels[start : start + size].to(device)
        try:
            logits = model(pixels.float() / 255)
        except torch.OutOfMemoryError:
            if batch_size is not None or size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            continue
        yield logits
        start += size


def _affordable_batch(side: int, device: torch.device) -> int:
    """Images at once that take a quarter of the GPU's free memory, or of a CPU's share of it."""
    free = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else _CPU_BYTES
    return max(1, min(_MOST_AT_ONCE, free // (3 * side * side * 4 * _ACTIVATIONS_PER_PIXEL)))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
