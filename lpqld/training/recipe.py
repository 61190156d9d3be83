"""The recipe: everything that decides how a student is trained, besides its images, labels and seed."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from lpqld.errors import ConfigError, DataError
from lpqld.models import IMAGENET_MEAN, IMAGENET_STD, Precision
from lpqld.training.temperature import parse_schedule

Order = Literal["views", "recorded"]
CALIBRATIONS = ("fit", "paper", "off")
# Came after the first label sets: written only where they say something, so that a manifest pays for no default.
_LATER_FIELDS = (
    "lr_per",
    "ema",
    "accumulate",
    "precision",
    "order",
    "augment_crop",
    "augment_flip",
    "hard_every",
    "hard_weight",
)


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
        precision: of the student's network: "float32", "bfloat16" (autocast), or "auto", see `precision.uses_bfloat16`.
    """

    # Read by pydantic where a configuration holds a recipe: fields that it does not have are refused, and a constant
    # temperature may be a number.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    architecture: str = "convnet"
    epochs: int = 300
    batch_size: int = 100
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    warmup_epochs: int = 0
    temperature: str = "20:2:step"
    ca: Literal["fit", "paper", "off"] = "fit"
    square_temperature: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    lr_per: Literal["step", "epoch"] = "step"
    ema: float = 0.0
    accumulate: int = 1
    precision: Precision = "auto"
    order: Order = "views"
    augment_crop: float = 1.0
    augment_flip: bool = False
    hard_every: int = 0
    hard_weight: float = 2.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs and batch size must be at least 1, found {self.epochs} and {self.batch_size}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(f"warmup_epochs must be 0 to {self.epochs - 1}, found {self.warmup_epochs}")
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            found = f"{self.lr}, {self.weight_decay} and {self.momentum}"
            raise ConfigError(f"lr must be above 0, weight_decay 0 or more, momentum in [0, 1), found {found}")
        if self.optimizer not in ("adamw", "sgd"):
            raise ConfigError(f"optimizer must be adamw or sgd, found {self.optimizer!r}")
        if self.ca not in CALIBRATIONS:
            raise ConfigError(f"ca must be one of {', '.join(CALIBRATIONS)}, found {self.ca!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"mean and std are three numbers each and std must be above 0, found {self.mean}, {self.std}"
            )
        if self.lr_per not in ("step", "epoch"):
            raise ConfigError(f"lr_per must be step or epoch, found {self.lr_per!r}")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be in [0, 1), such as 0.999, or 0 for none, found {self.ema}")
        if not 1 <= self.accumulate <= self.batch_size:
            raise ConfigError(f"accumulate must be 1 to the batch size ({self.batch_size}), found {self.accumulate}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision must be auto, float32 or bfloat16, found {self.precision!r}")
        if self.order not in get_args(Order):
            raise ConfigError(f"order must be views or recorded, found {self.order!r}")
        if not 0 < self.augment_crop <= 1:
            raise ConfigError(f"augment_crop must be above 0, up to 1, found {self.augment_crop}")
        if self.hard_every < 0 or self.hard_every == 1:
            raise ConfigError(f"hard_every must be 2 or more, or 0 for never, found {self.hard_every}")
        if self.hard_every and self.order != "views":
            raise ConfigError("hard_every: the recorded order has no epochs of hard labels; choose order views")
        if not 0 < self.hard_weight < math.inf:
            raise ConfigError(f"hard_weight must be above 0, found {self.hard_weight}")
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
        """JSON values."""
        document = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in document.items() if key not in _LATER_FIELDS or value != _DEFAULTS[key]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            DataError: unknown fields.
        """
        found: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in document.items()}
        try:
            return cls(**found)
        except TypeError as error:
            raise DataError(f"the student recipe in this manifest is not one that this lpqld knows: {error}") from error


_DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
