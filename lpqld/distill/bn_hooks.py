"""What enters the batch-norm layers of a network, by hooks, and a loss of it: any timm or built-in model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lpqld.distill.bn_loss import BatchNormLoss
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
    try:
        with torch.no_grad(), watched(layers) as seen:
            network.eval()(torch.zeros(1, 3, size, size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the teacher cannot take images of {size} x {size} pixels ({reason})") from error
    return {name: layers[name] for name in seen}


@contextmanager
def watched(layers: Mapping[str, _BatchNorm]) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that every forward pass fills anew with the input of each layer, in the order of the passes."""
    seen: dict[str, torch.Tensor] = {}
    with _hooked(layers, seen.__setitem__):
        yield seen


@contextmanager
def with_batch_norm_loss(
    layers: Mapping[str, _BatchNorm], terms: Mapping[str, BatchNormLoss]
) -> Iterator[dict[str, torch.Tensor | float]]:
    """Adds to what is minimised, of every forward pass, the batch-norm losses of all layers.

    The dict has every layer's distance, not weighted, in the last pass, as `BatchNormLoss.apply` has it.
    """
    distances: dict[str, torch.Tensor | float] = {}

    def add(name: str, values: torch.Tensor) -> None:
        target = terms[name]
        if values.numel() > target.mean.numel():  # one number a channel has no variance
            distances[name] = target.apply(values)

    with _hooked(layers, add):
        yield distances


@contextmanager
def _hooked(layers: Mapping[str, _BatchNorm], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """`see` gets every layer's name and input."""

    def add(name: str) -> torch.utils.hooks.RemovableHandle:
        return layers[name].register_forward_pre_hook(lambda _module, inputs: see(name, inputs[0]))

    hooks = [add(name) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
