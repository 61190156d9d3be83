"""How a teacher is trained from scratch, besides its images and seed, and after which epochs it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lpqld.errors import ConfigError
from lpqld.images import ImageSet


@dataclass(frozen=True)
class FitRecipe:
    """How a teacher is trained.

    Attributes:
        architecture: a built-in or timm name, see `architectures.build`.
        epochs: passes over the images, 1 or more.
        batch_size: images per step, 2 or more; batches are even, so the last is not small.
        lr: peak learning rate of AdamW; it rises to this and falls to 0 by half a cosine.
        weight_decay: not applied to one-dimensional parameters.
        flip: mirror half of the images; None mirrors those of sets with colour, since digits have none.
        max_shift: each image moves by up to this many pixels each way, its edge repeated; None for 1/8 of the side.
    """

    architecture: str
    epochs: int
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    flip: bool | None = None
    max_shift: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not self.lr > 0:
            raise ConfigError(
                "a teacher needs epochs of 1 or more, a batch size of 2 or more and a learning rate above 0, found"
                f" {self.epochs}, {self.batch_size} and {self.lr}"
            )

    def for_images(self, images: ImageSet) -> FitRecipe:
        """The same with `flip` and `max_shift` as `images` ask for, where they are None.

        Raises:
            ConfigError: `max_shift` is negative, or reaches across a whole image.
        """
        flip, max_shift = self.flip, self.max_shift
        if flip is None:
            flip = bool((images.pixels != images.pixels[:, :1]).any())
        if max_shift is None:
            max_shift = images.size // 8
        if not 0 <= max_shift < images.size:
            raise ConfigError(f"max_shift must be in [0, {images.size}), found {max_shift}")
        return replace(self, flip=flip, max_shift=max_shift)


def epochs_to_keep(text: str, epochs: int) -> tuple[int, ...]:
    """Epochs from 1 to `epochs`, ascending: a list such as "1,5,20", "log:8" for about 8, evenly in log time, or
    "every:5"; with these two the last is always kept.

    Raises:
        ConfigError: `text` is neither, or names an epoch that is not there.
    """
    kind, _, rest = text.rpartition(":")
    try:
        numbers = [int(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if kind == "log" and len(numbers) == 1 and numbers[0] >= 1:
        return tuple(sorted({round(float(epoch)) for epoch in np.geomspace(1, epochs, numbers[0])} | {epochs}))
    if kind == "every" and len(numbers) == 1 and 1 <= numbers[0] <= epochs:
        return tuple(sorted({*range(numbers[0], epochs, numbers[0]), epochs}))
    if kind or not numbers or not all(1 <= number <= epochs for number in numbers):
        raise ConfigError(
            f"epochs to keep, {text!r}: expected a list of epochs from 1 to {epochs}, such as 1,{epochs}, or log:8,"
            f" or every:N with N of at most {epochs}"
        )
    return tuple(sorted(set(numbers)))
