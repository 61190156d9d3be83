"""Networks by name: four built in for small images, torchvision's ShuffleNet, every other one from timm."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError


class ConvNet(nn.Sequential):
    """Three blocks of 3x3 convolution, batch norm, ReLU and 2x2 average pooling, then a global mean and a linear layer.

    Takes images of 8 x 8 to 64 x 64 pixels; about 77,000 weights at the default width.
    """

    def __init__(self, num_classes: int, width: int = 64, num_blocks: int = 3) -> None:
        layers: list[nn.Module] = []
        for block in range(num_blocks):
            layers += [
                nn.Conv2d(width if block else 3, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2, ceil_mode=True),
            ]
        super().__init__(*layers, _GlobalMean(), nn.Linear(width, num_classes))


class InstanceNormConvNet(nn.Sequential):
    """The ConvNet of small data set distillation: blocks of 128 channels, instance norm, ReLU and 2x2 average pooling.

    Three blocks at 32 pixels and four at 64 leave maps of 4 x 4, which a linear layer takes as they are ("A Label is
    Worth a Thousand Images", arXiv 2406.10485; "Dataset Condensation", arXiv 2006.05929); those of other sizes are
    brought to 4 x 4.
    """

    def __init__(self, num_classes: int, num_blocks: int, width: int = 128) -> None:
        layers: list[nn.Module] = []
        for block in range(num_blocks):
            layers += [
                nn.Conv2d(width if block else 3, width, 3, padding=1),
                nn.GroupNorm(width, width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2, ceil_mode=True),
            ]
        super().__init__(*layers, _FourByFour(), nn.Flatten(), nn.Linear(16 * width, num_classes))


class _FourByFour(nn.Module):
    """Maps of 4 x 4, means of larger ones; none where there is nothing to do: their gradient is not deterministic."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features if features.shape[2:] == (4, 4) else F.adaptive_avg_pool2d(features, 4)


class _GlobalMean(nn.Module):
    """A plain mean: unlike adaptive pooling, its gradient is deterministic on CUDA."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions around an option-A shortcut: the strided identity, padded with zero channels."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - in_channels) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. (2016), 6n + 2 layers: 3x3 stem, then n blocks each of 16, 32 and 64 channels."""

    def __init__(self, blocks_per_stage: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks_per_stage, stride=1)
        self.layer2 = _stage(16, 32, blocks_per_stage, stride=2)
        self.layer3 = _stage(32, 64, blocks_per_stage, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to logits [B, C]."""
        features = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(features.mean((2, 3)))


def _stage(in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(CifarBlock(channels, channels, 1) for _ in range(num_blocks - 1)))


def _tiny_resnet18(num_classes: int) -> nn.Module:
    """timm's ResNet-18 for small images: a 3x3 stem of stride 1 and no max-pool."""
    import timm  # noqa: PLC0415  (as below)

    model = timm.create_model("resnet18", pretrained=False, num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _shufflenet(num_classes: int) -> nn.Module:
    """The one network of the field's tables that timm lacks."""
    from torchvision.models import shufflenet_v2_x1_0  # noqa: PLC0415  (as below)

    return shufflenet_v2_x1_0(num_classes=num_classes)


_BUILT_IN: dict[str, Callable[[int], nn.Module]] = {
    "convnet": ConvNet,
    "convnet_d3": lambda num_classes: InstanceNormConvNet(num_classes, 3),
    "convnet_d4": lambda num_classes: InstanceNormConvNet(num_classes, 4),
    "cifar_resnet20": lambda num_classes: CifarResNet(3, num_classes),
    "cifar_resnet56": lambda num_classes: CifarResNet(9, num_classes),
    "tiny_resnet18": _tiny_resnet18,
    "shufflenet_v2_x1_0": _shufflenet,
}


def names() -> tuple[str, ...]:
    """The built-in architectures; timm's names are accepted besides."""
    return tuple(_BUILT_IN)


def is_built_in(architecture: str) -> bool:
    """Whether `architecture` is one of `names()` rather than one of timm's."""
    return architecture in _BUILT_IN


def build(architecture: str, num_classes: int) -> nn.Module:
    """A freshly initialised network from images [B, 3, H, W] to logits [B, num_classes]; nothing is downloaded.

    Args:
        architecture: one of `names()`, or a timm model name.
        num_classes: 1 or more.

    Raises:
        ConfigError: the name is unknown, or this network cannot be built.
    """
    if num_classes < 1:
        raise ConfigError(f"architecture {architecture}: the number of classes must be 1 or more, found {num_classes}")
    if architecture in _BUILT_IN:
        return _BUILT_IN[architecture](num_classes)
    import timm  # noqa: PLC0415  (half of what a worker's start would cost, on networks that have no use of it)

    if not timm.is_model(architecture):
        known = [*_BUILT_IN, *timm.list_models()]
        close = difflib.get_close_matches(architecture, known, n=4, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"built in are {', '.join(_BUILT_IN)}."
        raise ConfigError(f"unknown architecture {architecture!r}: {hint} Any name of timm.list_models() is accepted")
    try:
        return timm.create_model(architecture, pretrained=False, num_classes=num_classes)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"timm cannot build {architecture} with {num_classes} classes: {error}") from error


def fixed_input_size(network: nn.Module) -> int | None:
    """The only side in pixels of images that a network of timm's takes; None where any will do."""
    config = getattr(network, "default_cfg", None)
    return config["input_size"][-1] if config and config.get("fixed_input_size") else None
