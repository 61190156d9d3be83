"""Where a teacher comes from, and what its files do not say: one record from an option to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpqld.models.choices import ARCHITECTURES
from lpqld.storage import setting

if TYPE_CHECKING:
    from lpqld.models.teacher import Teacher


@dataclass(frozen=True)
class TeacherSource:
    """A teacher's files, and what is said of it in their place; None takes what they say, see `load_teacher`.

    Attributes:
        source: a checkpoint, or several, as `load_teachers` finds them.
        architecture: a built-in or timm name.
        classes: a file that names the outputs in order, or a label list of timm's.
        input_size: side of the views that the network takes, in pixels.
        mean, std: of its input, for pixels in [0, 1].
        interpolation: "bilinear" or "bicubic", to that side.
    """

    source: Path | str | Sequence[Path]
    architecture: str | None = setting(None, ARCHITECTURES)
    classes: str | None = setting(None, "Names of the teacher's outputs in order: a JSON or text FILE, or imagenet-1k.")
    input_size: int | None = setting(None, "Side in pixels that the teacher takes.", minimum=1)
    mean: tuple[float, float, float] | None = setting(None, "The teacher's input mean, such as 0.5,0.5,0.5.")
    std: tuple[float, float, float] | None = setting(None, "The teacher's input deviation, such as 0.5,0.5,0.5.")
    interpolation: str | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What is given of all this, by field."""
        return {key: value for key, value in vars(self).items() if value is not None}

    def load(self, image_class_names: Sequence[str]) -> Teacher:
        """The teacher, cut to some classes; errors are those of `load_teachers`."""
        # Here, for a record that is read without a network loads none.
        from lpqld.models.ensemble import load_teachers  # noqa: PLC0415

        return load_teachers(
            self.source,
            architecture=self.architecture,
            input_size=self.input_size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            classes=self.classes,
            image_class_names=image_class_names,
        )
