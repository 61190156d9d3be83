"""The recipe: everything that decides how a student is trained, besides its images, labels and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lpqld.errors import ConfigError, DataError
from lpqld.models import ARCHITECTURES, IMAGENET_MEAN, IMAGENET_STD, Precision
from lpqld.storage import Rule, check_settings, one_of, setting, settings_json, settings_values

Order = Literal["views", "recorded"]
_DECAY = Rule("must be in [0, 1), such as 0.999, or 0 for none", lambda decay: 0 <= decay < 1)
_SHARE = Rule("must be above 0, up to 1", lambda share: 0 < share <= 1)
_EVERY = Rule("must be 2 or more, or 0 for never", lambda every: every == 0 or every >= 2)
_WEIGHT = Rule("must be above 0", lambda weight: 0 < weight < math.inf)
_CALIBRATION = Rule("must be one of fit, paper, off", lambda ca: ca in ("fit", "paper", "off"))


@dataclass(frozen=True)
class Recipe:
    """How a student is trained.

    Attributes:
        architecture: a built-in or timm name.
        epochs: passes over the images, each with one view per image.
        batch_size: views per step.
        optimizer: "adamw" or "sgd" (Nesterov off).
        lr: peak learning rate; falls to 0 by half a cosine.
        weight_decay: not applied to one-dimensional parameters.
        momentum: of SGD.
        warmup_epochs: linear warm-up.
        temperature: the teacher's, see `temperature.parse_schedule`.
        ca: calibration of the student's temperature: "fit", "paper" or "off" (equal to the teacher's).
        square_temperature: multiply the loss by the teacher temperature squared (the Tiny-ImageNet SGD recipe).
        mean, std: normalisation of the student's input.
        lr_per: whether the learning rate moves every "step" or every "epoch".
        ema: decay of the exponential average of the weights, evaluated in their place, in [0, 1); 0 is off.
        accumulate: parts that a step's views are cut into, whose gradients add up. Only batch norm notices.
        order: of the views: "views", every image once an epoch; "recorded", the batches of an imported label set as
            they were made, and then `batch_size` means nothing.
        augment_crop: of labels of whole images, one each: every epoch the student sees another crop of each image, of
            this share of its area up to all of it, in (0, 1]; 1 is the whole image, always.
        augment_flip: half of those crops are mirrored.
        hard_every: every so many-th epoch, the first one too, is of hard labels: other crops of the images, unmixed,
            each with its image's class, which take no bytes; 0 is never. It pays where labels are few.
        hard_weight: of the cross-entropy of those, beside KL times the teacher temperature squared.
        precision: of the student's network: "float32", "bfloat16" (autocast), or "auto" (`lpqld.models.uses_bfloat16`).
    """

    # Read by pydantic where a configuration holds a recipe: fields that it does not have are refused, and a constant
    # temperature may be a number.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    architecture: str = setting("convnet", ARCHITECTURES)
    epochs: int = setting(300, "Passes over the images.", minimum=1)
    batch_size: int = setting(100, "Views per step.", minimum=1)
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "adamw or sgd.", rule=one_of("adamw", "sgd"))
    lr: float = setting(1e-3, "Peak learning rate.")
    weight_decay: float = setting(0.01, "Not of biases and norms.", minimum=0)
    momentum: float = setting(0.9)
    warmup_epochs: int = setting(0, "Epochs in which the learning rate rises.", minimum=0)
    temperature: str = setting("20:2:step", "The teacher's: 20, 20:2:step, 20:2:cosine, or 2:20:step.")
    ca: Literal["fit", "paper", "off"] = setting(
        "fit", "The student's temperature: fit, paper or off.", rule=_CALIBRATION
    )
    square_temperature: bool = setting(False)
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN)
    std: tuple[float, float, float] = setting(IMAGENET_STD)
    lr_per: Literal["step", "epoch"] = setting("step", rule=one_of("step", "epoch"), later=True)
    ema: float = setting(
        0.0, "Decay of the average of the weights, such as 0.999; 0 for none.", rule=_DECAY, later=True
    )
    accumulate: int = setting(1, "Parts that a step is cut into, to save memory.", minimum=1, later=True)
    precision: Precision = setting(
        "auto",
        "auto, float32, or bfloat16 (mixed precision).",
        rule=one_of("auto", "float32", "bfloat16"),
        later=True,
    )
    order: Order = setting(
        "views",
        "views: every image once an epoch; recorded: the batches of an imported set.",
        rule=one_of("views", "recorded"),
        later=True,
    )
    augment_crop: float = setting(
        1.0,
        "Of one label for each whole image: students see other crops each epoch, of this share and more.",
        rule=_SHARE,
        later=True,
    )
    augment_flip: bool = setting(False, "And half of them mirrored.", later=True)
    hard_every: int = setting(
        0,
        "Every so many-th epoch is of hard labels, which take no bytes; 0: none.",
        minimum=0,
        rule=_EVERY,
        later=True,
    )
    hard_weight: float = setting(2.0, "Of their loss beside KL times T squared.", minimum=0, rule=_WEIGHT, later=True)

    def __post_init__(self) -> None:
        # Here, for a schedule comes with torch, and options are made of these fields without it.
        from lpqld.training.temperature import parse_schedule  # noqa: PLC0415

        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs and batch size must be at least 1, found {self.epochs} and {self.batch_size}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(f"warmup_epochs must be 0 to {self.epochs - 1}, found {self.warmup_epochs}")
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            values = f"{self.lr}, {self.weight_decay} and {self.momentum}"
            raise ConfigError(f"lr must be above 0, weight_decay 0 or more, momentum in [0, 1), found {values}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"mean and std are three numbers each and std must be above 0, found {self.mean}, {self.std}"
            )
        check_settings(self)
        if not 1 <= self.accumulate <= self.batch_size:
            raise ConfigError(f"accumulate must be 1 to the batch size ({self.batch_size}), found {self.accumulate}")
        if self.hard_every and self.order != "views":
            raise ConfigError("hard_every: the recorded order has no epochs of hard labels; choose order views")
        parse_schedule(self.temperature, self.epochs)

    @property
    def augments(self) -> bool:
        """Whether students see other views than the labels'."""
        return self.augment_crop < 1 or self.augment_flip

    def is_hard(self, epoch: int) -> bool:
        """Whether an epoch is of hard labels."""
        return self.hard_every > 0 and epoch % self.hard_every == 0

    def num_hard_before(self, epoch: int) -> int:
        """How many epochs before an epoch are of hard labels."""
        return -(-epoch // self.hard_every) if self.hard_every else 0

    def to_json(self) -> dict[str, Any]:
        """JSON values; a field that came after the first label sets is there only where it is not at its default."""
        return settings_json(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            DataError: unknown fields.
        """
        try:
            return cls(**settings_values(document))
        except TypeError as error:
            raise DataError(f"the student recipe in this manifest is not one that this lpqld knows: {error}") from error
