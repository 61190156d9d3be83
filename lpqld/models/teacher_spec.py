"""What a teacher is besides its weights, and how that travels as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from lpqld.errors import ConfigError, DataError
from lpqld.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, Triple

METADATA_KEY = "lpqld"
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class TeacherSpec:
    """What a teacher is, besides its weights.

    Attributes:
        architecture: a name that `architectures.build` knows.
        num_classes: outputs of the network.
        input_size: side in pixels that views are resized to; None for the size they have.
        mean, std: per channel, for pixels in [0, 1].
        interpolation: "bilinear" or "bicubic".
        class_names: of the outputs in order; None when not known.
    """

    architecture: str
    num_classes: int
    input_size: int | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: str = "bilinear"
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.input_size is not None and self.input_size < 1:
            raise ConfigError(f"teacher input size must be 1 pixel or more, found {self.input_size}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ConfigError(
                f"teacher mean and std must be 3 numbers each, std above 0, found {self.mean} and {self.std}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(f"teacher interpolation must be bilinear or bicubic, found {self.interpolation!r}")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ConfigError(
                f"a teacher with {self.num_classes} outputs needs as many class names, found {len(self.class_names)}"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TeacherSpec:
        """The inverse of `to_json`.

        Raises:
            DataError: a field is missing, unknown, or of another type.
        """
        try:
            known = {field.name for field in fields(cls)}
            if unknown := set(content) - known:
                raise KeyError(f"unknown fields {sorted(unknown)}")
            names, size = content["class_names"], content["input_size"]
            return cls(
                architecture=str(content["architecture"]),
                num_classes=int(content["num_classes"]),
                input_size=None if size is None else int(size),
                mean=_triple(content["mean"]),
                std=_triple(content["std"]),
                interpolation=str(content["interpolation"]),
                class_names=None if names is None else tuple(str(name) for name in names),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"not the description of a teacher: {error}") from error


def _triple(values: Sequence[float]) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
