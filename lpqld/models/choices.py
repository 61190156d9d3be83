"""What can be chosen of a network, in words: read for options, so that nothing numerical is loaded."""

from __future__ import annotations

from typing import Literal

ARCHITECTURES = (
    "convnet, convnet_d3, convnet_d4, cifar_resnet20, cifar_resnet56, tiny_resnet18, shufflenet_v2_x1_0, or any name "
    "of timm's."
)
# See `precision` for what each means.
Precision = Literal["auto", "float32", "bfloat16"]
