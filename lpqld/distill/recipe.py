"""How images are recovered: what `recover` computes, with its defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from lpqld.models import Precision


@dataclass(frozen=True)
class RecoverRecipe:
    """How images are recovered.

    Attributes:
        mode: "class": the images of one class together, against its statistics; "cross": images of many classes
            together, against the running statistics.
        iterations: steps of Adam, the learning rate a cosine to 0.
        lr: at the first step, in units of the teacher's normalised space.
        betas: of Adam.
        bn_weight: r_bn.
        first_layer_weight: w of the first layer; 1 for the others.
        crop_scale, crop_ratio: of the random crops, as in `views.ViewRule`.
        flip: mirror half of them.
        shift: most pixels of the circular shift, in either direction.
        curriculum: crops go from whole images to `crop_scale` ("linear", "cosine"; CDA, arXiv 2311.18838), or "none".
        init: "noise" from N(0, 1), or "real" images of the class.
        batch_size: most images a step; in class mode whole classes, and a class with more has a batch of its own. None
            for 100, but in class mode no fewer than 8 batches where there are as many classes, for as many workers.
        precision: of the teacher: "float32", "bfloat16" (autocast), or "auto", see `precision.uses_bfloat16`.
        seed: of everything that is drawn.
    """

    mode: Literal["class", "cross"] = "class"
    iterations: int = 1000
    lr: float = 0.1
    betas: tuple[float, float] = (0.5, 0.9)
    bn_weight: float = 0.05
    first_layer_weight: float = 10.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    shift: int = 4
    curriculum: Literal["none", "linear", "cosine"] = "none"
    init: Literal["noise", "real"] = "noise"
    batch_size: int | None = None
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        rules = {
            "mode must be class or cross": self.mode in ("class", "cross"),
            "iterations must be at least 1": self.iterations >= 1,
            "lr must be above 0": 0 < self.lr < math.inf,
            "betas must be in [0, 1)": len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "bn_weight must be 0 or more": 0 <= self.bn_weight < math.inf,
            "first_layer_weight must be 0 or more": 0 <= self.first_layer_weight < math.inf,
            "crop_scale must be 0 < low <= high <= 1": 0 < low <= high <= 1,
            "crop_ratio must be 0 < low <= high": 0 < self.crop_ratio[0] <= self.crop_ratio[1],
            "shift must be 0 or more": self.shift >= 0,
            "curriculum must be none, linear or cosine": self.curriculum in ("none", "linear", "cosine"),
            "init must be noise or real": self.init in ("noise", "real"),
            "batch_size must be at least 1": self.batch_size is None or self.batch_size >= 1,
            "precision must be auto, float32 or bfloat16": self.precision in get_args(Precision),
            "seed must be in [0, 2**64)": 0 <= self.seed < 2**64,
        }
        for rule, kept in rules.items():
            if not kept:
                raise ConfigError(f"recover.{rule}, found {getattr(self, rule.split(' ')[0])}")

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RecoverRecipe:
        """From `to_json`, or the part of it that differs from the defaults.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type or out of range.
        """
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"recover has no {', '.join(unknown)}")
        arguments: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ConfigError(f"recover has a value of another type than its default: {error}") from error

    def smallest_crop(self, iterations: NDArray[np.int64]) -> NDArray[np.float64]:
        """The lower end of `crop_scale` at each iteration."""
        low = self.crop_scale[0]
        done = iterations / self.iterations
        if self.curriculum == "none":
            return np.full(len(iterations), low)
        left = 1 - done if self.curriculum == "linear" else (1 + np.cos(np.pi * done)) / 2
        return np.minimum(low + (1 - low) * left, self.crop_scale[1])
