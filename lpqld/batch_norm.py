"""What enters the batch-norm layers of a network, seen and pulled by hooks: any timm or built-in model, unmodified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lpqld.errors import ConfigError


def batch_norm_layers(network: nn.Module, size: int) -> dict[str, _BatchNorm]:
    """The batch-norm layers by name, in the order in which an image passes them.

    Args:
        size: side of an input image that the network takes.

    Raises:
        ConfigError: it has none with running statistics.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}
    layers = {name: layer for name, layer in layers.items() if layer.running_mean is not None}
    if not layers:
        raise ConfigError(
            "the teacher has no batch norm, whose statistics images are recovered from; take one that has, such as "
            "resnet18, cifar_resnet20, mobilenetv2_100, efficientnet_b0, regnety_004 or densenet121"
        )
    device = next(network.parameters()).device
    with torch.no_grad(), watched(layers) as seen:
        network.eval()(torch.zeros(1, 3, size, size, device=device))
    return {name: layers[name] for name in seen}


@contextmanager
def watched(layers: Mapping[str, _BatchNorm]) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that every forward pass fills anew with the input of each layer, in the order of the passes."""
    seen: dict[str, torch.Tensor] = {}
    with _hooked(layers, seen.__setitem__):
        yield seen


def mean_and_square(values: torch.Tensor, shift: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of (values - shift) and of (values - shift)^2 over the images and positions of each group, float32 [G, F].

    Ten times as fast on a CPU as `torch.var_mean`, which is slow over channels-last memory.

    Args:
        values: [B, F] or [B, F, H, W], B a multiple of G.
        shift: [F], or [G, F]; near the mean, so that nothing cancels.
        num_groups: G.
    """
    rows, repeats = _rows(values, num_groups)
    offset = rows.float() - _repeated(shift, repeats)
    first = offset.sum(1)
    second = offset.mul_(offset).sum(1)  # in place: half of the time goes to memory
    mean, square = (part.unflatten(1, (repeats, -1)).sum(1) / (rows.shape[1] * repeats) for part in (first, second))
    return mean, square


@dataclass(frozen=True)
class Pull:
    """Where the inputs of a layer are pulled to.

    Attributes:
        mean, variance: of each group, float32 [G, F].
        weight: of the distance from them.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    weight: float


@contextmanager
def pulled(layers: Mapping[str, _BatchNorm], pulls: Mapping[str, Pull]) -> Iterator[dict[str, torch.Tensor]]:
    """Adds to what is minimised, of every forward pass, the weighted distances of all layers' inputs from their pulls.

    The distance is ||Var - variance||_2 + ||mean - mu||_2, with biased variances, summed over groups; its gradient
    joins the others in the backward pass. The dict has every layer's distance in the last pass.
    """
    distances: dict[str, torch.Tensor] = {}

    def pull(name: str, values: torch.Tensor) -> torch.Tensor | None:
        target = pulls[name]
        if values.numel() == target.mean.numel():
            return None  # one number a channel has no variance
        pulled_values: torch.Tensor
        pulled_values, distances[name] = _Pulled.apply(values, target)
        return pulled_values

    with _hooked(layers, pull):
        yield distances


@contextmanager
def _hooked(
    layers: Mapping[str, _BatchNorm], see: Callable[[str, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """`see` gets every layer's name and input; what it returns, unless None, enters the layer instead."""

    def add(name: str) -> torch.utils.hooks.RemovableHandle:
        return layers[name].register_forward_pre_hook(lambda _module, inputs: see(name, inputs[0]))

    hooks = [add(name) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Pulled(torch.autograd.Function):
    """The same values; in the backward pass the gradient of their distance joins theirs.

    As torch operations it would be kept, and passed over, several times.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, pull: Pull) -> tuple[torch.Tensor, torch.Tensor]:
        num_groups = len(pull.mean)
        offset, square = mean_and_square(values, pull.mean, num_groups)
        excess = square - offset.square() - pull.variance
        lengths = [torch.linalg.vector_norm(part, dim=1, keepdim=True) for part in (offset, excess)]
        to_mean, to_variance = (
            pull.weight * part / length.clamp_min(1e-12) for part, length in zip((offset, excess), lengths, strict=True)
        )
        count = values.numel() / pull.mean.numel()
        # Of ||mean - mu|| and ||Var - v||: to_mean / count + to_variance * 2 (x - mean) / count.
        slope = 2 * to_variance / count
        ctx.save_for_backward(values, slope, to_mean / count - slope * (pull.mean + offset))
        distance = torch.stack(lengths).sum()
        ctx.mark_non_differentiable(distance)
        return values.view_as(values), distance

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        values, slope, constant = ctx.saved_tensors
        rows, repeats = _rows(values, len(slope))
        slope, constant = (_repeated(part, repeats).to(values.dtype) for part in (slope, constant))
        gradient = torch.addcmul(_rows(gradients[0], len(slope))[0], rows, slope).add_(constant)
        return _unrows(gradient, values), None


def _rows(values: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, int]:
    """Values as [G, R, W * F], a view of channels-last ones, and W: what is added up over R lies in long rows."""
    if values.dim() == 2:
        return values.reshape(num_groups, -1, values.shape[1]), 1
    width, channels = values.shape[3], values.shape[1]
    return values.permute(0, 2, 3, 1).reshape(num_groups, -1, width * channels), width


def _repeated(numbers: torch.Tensor, repeats: int) -> torch.Tensor:
    """Numbers of each channel, [F] or [G, F], for rows: [1 or G, 1, repeats * F]."""
    return numbers.repeat(*[1] * (numbers.dim() - 1), repeats).reshape(-1, 1, repeats * numbers.shape[-1])


def _unrows(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `_rows`, in the shape of `like`."""
    if like.dim() == 2:
        return rows.reshape(like.shape)
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
