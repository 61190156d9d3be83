"""ImageNet's mean and standard deviation, which the field normalises with unless it says otherwise."""

from __future__ import annotations

Triple = tuple[float, float, float]
# Red, green and blue of the training images, for pixels in [0, 1]. Torch is not loaded for these.
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
