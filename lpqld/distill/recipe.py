"""How images are recovered: what `recover` computes, with its defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from lpqld.errors import ConfigError
from lpqld.models import Precision
from lpqld.storage import Rule, check_settings, one_of, setting, settings_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _is_crop_scale(scale: tuple[float, float]) -> bool:
    low, high = scale
    return 0 < low <= high <= 1


def _is_pair_of_betas(betas: tuple[float, float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


_AT_LEAST_0 = Rule("must be 0 or more", lambda value: 0 <= value < math.inf)
_AT_LEAST_1 = Rule("must be at least 1", lambda value: value is None or value >= 1)
_CROP_RATIO = Rule("must be 0 < low <= high", lambda ratio: 0 < ratio[0] <= ratio[1])


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

    mode: Literal["class", "cross"] = setting(
        "class",
        "class: a class's images together, to its own statistics; cross: as SRe2L.",
        rule=one_of("class", "cross"),
    )
    iterations: int = setting(1000, "Steps of Adam.", minimum=1, rule=_AT_LEAST_1)
    lr: float = setting(0.1, "At the first step.", rule=Rule("must be above 0", lambda lr: 0 < lr < math.inf))
    betas: tuple[float, float] = setting((0.5, 0.9), rule=Rule("must be in [0, 1)", _is_pair_of_betas))
    bn_weight: float = setting(0.05, "Of the batch-norm distance.", minimum=0, rule=_AT_LEAST_0)
    first_layer_weight: float = setting(10.0, rule=_AT_LEAST_0)
    crop_scale: tuple[float, float] = setting((0.08, 1.0), rule=Rule("must be 0 < low <= high <= 1", _is_crop_scale))
    crop_ratio: tuple[float, float] = setting((3 / 4, 4 / 3), rule=_CROP_RATIO)
    flip: bool = setting(True)
    shift: int = setting(4, "Most pixels of the circular shift.", minimum=0, rule=_AT_LEAST_0)
    curriculum: Literal["none", "linear", "cosine"] = setting(
        "none", "From whole images to small crops: none, linear, cosine.", rule=one_of("none", "linear", "cosine")
    )
    init: Literal["noise", "real"] = setting(
        "noise", "Start from noise, or from real images.", rule=one_of("noise", "real")
    )
    batch_size: int | None = setting(None, "Images a step, in whole classes.", minimum=1, rule=_AT_LEAST_1)
    precision: Precision = setting("auto", rule=one_of("auto", "float32", "bfloat16"))
    seed: int = setting(
        0,
        "Seed of everything that is drawn.",
        minimum=0,
        rule=Rule("must be in [0, 2**64)", lambda seed: 0 <= seed < 2**64),
    )

    def __post_init__(self) -> None:
        check_settings(self, prefix="recover.", shown=str)

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
        try:
            return cls(**settings_values(values))
        except TypeError as error:
            raise ConfigError(f"recover has a value of another type than its default: {error}") from error

    def smallest_crop(self, iterations: NDArray[np.int64]) -> NDArray[np.float64]:
        """The lower end of `crop_scale` at each iteration."""
        import numpy as np  # noqa: PLC0415  (options are made of these fields without it)

        low = self.crop_scale[0]
        done = iterations / self.iterations
        if self.curriculum == "none":
            return np.full(len(iterations), low)
        left = 1 - done if self.curriculum == "linear" else (1 + np.cos(np.pi * done)) / 2
        return np.minimum(low + (1 - low) * left, self.crop_scale[1])
