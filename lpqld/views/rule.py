"""The distribution that views are drawn from: what a label set's manifest says of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lpqld.errors import ConfigError
from lpqld.storage import Fields

RULE_VERSION = 1  # of rules that are made now


@dataclass(frozen=True)
class ViewRule:
    """The distribution that views are drawn from.

    Attributes:
        crop_scale: smallest and largest share of the image's area that a crop covers, in (0, 1].
        crop_ratio: smallest and largest width / height of a crop.
        flip: mirror half of the views.
        mix: "cutmix" pastes a box of another image's view, "mixup" blends two views, "none".
        mix_alpha: lambda is drawn from Beta(mix_alpha, mix_alpha).
        cutout: paint a box of half the side in one random colour.
        version: of the rule; `registry` knows which there are.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    mix: Literal["none", "cutmix", "mixup"] = "cutmix"
    mix_alpha: float = 1.0
    cutout: bool = False
    version: int = RULE_VERSION

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"views.crop_scale must be 0 < low <= high <= 1, found {low}, {high}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ConfigError(f"views.crop_ratio must be 0 < low <= high, found {self.crop_ratio}")
        if self.mix not in ("none", "cutmix", "mixup"):
            raise ConfigError(f"views.mix must be none, cutmix or mixup, found {self.mix!r}")
        if not self.mix_alpha > 0:
            raise ConfigError(f"views.mix_alpha must be above 0, found {self.mix_alpha}")

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Fields) -> ViewRule:
        """The inverse of `to_json`.

        Raises:
            DataError: a field is missing, unknown, or of another type.
            ConfigError: a value is out of range.
        """
        scale, ratio = fields.numbers("crop_scale", 2), fields.numbers("crop_ratio", 2)
        rule = cls(
            crop_scale=(scale[0], scale[1]),
            crop_ratio=(ratio[0], ratio[1]),
            flip=fields.flag("flip"),
            mix=fields.text("mix"),  # type: ignore[arg-type]
            mix_alpha=fields.number("mix_alpha"),
            cutout=fields.flag("cutout"),
            version=fields.integer("version", 0, 2**31 - 1),
        )
        fields.finish()
        return rule
