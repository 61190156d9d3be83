"""What enters the batch-norm layers of a network, seen by hooks: any timm or built-in model, unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
def watched(layers: dict[str, _BatchNorm]) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that every forward pass fills anew with the input of each layer, in the order of the passes."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name] = inputs[0]

        return layers[name].register_forward_pre_hook(hook)

    hooks = [keep(name) for name in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
