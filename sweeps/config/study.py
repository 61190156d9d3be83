"""The configuration of a study of the soft-label baseline ("A Label is Worth a Thousand Images", arXiv 2406.10485)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from lpqld.training import Recipe
from sweeps.config.sweep import EvalConfig, Strict

Positive = Annotated[int, Field(ge=1)]


class ExpertsConfig(Strict):
    """Teachers with checkpoints along the way: those of `source`, or of `seeds` fits of a network here.

    `source` is a pattern of finished teachers, such as experts/digits-seed*.safetensors; their checkpoints,
    `-epochN.safetensors`, lie beside them, as `lpqld teacher fit` writes them.
    """

    source: str | None = None
    images: str | None = Field(default=None, description="fitted to these; default: those of the study")
    architecture: str = "convnet"
    epochs: Positive = 30
    seeds: Positive = 1
    keep: str = Field(default="log:8", description="epochs kept: a list, or so many evenly in log time")
    lr: float = Field(default=3e-3, gt=0)
    batch_size: int = Field(default=128, ge=2)


_STUDENT: dict[str, Any] = {"temperature": "1", "ca": "off", "epochs": 300}


class StudyConfig(Strict):
    """Random real images, one soft label each, students of them; what is varied depends on the study."""

    images: str
    size: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    ipc: tuple[Positive, ...] = Field(default=(1, 10, 50), min_length=1)
    eval: EvalConfig
    experts: ExpertsConfig = ExpertsConfig()
    student: Recipe = Recipe(**_STUDENT)
    seeds: Positive = 3
    epoch: Positive | None = Field(default=None, description="the experts' where it is not varied; default: the last")
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0, 2.0, 3.0, 4.0, 5.0), min_length=1)
    members: tuple[Positive, ...] | None = Field(
        default=None, min_length=1, description="experts; default: 1, 2, 4, 8, as far as there are so many"
    )
    ranks: tuple[Positive, ...] | None = Field(
        default=None, min_length=1, description="swapped, the top ones up to C / 2; default: 1, 2, 5, 10 ... C - 1"
    )
    smoothing: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.1, 0.3)
    k: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="classes kept, 0 for hard labels; default: 0, 1, 2, 5, 10 ... C"
    )
    removed: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="classes of zero-shot"
    )

    @field_validator("student", mode="before")
    @classmethod
    def _of_a_study(cls, given: Any) -> Any:
        """What is not given is as in a study, not as in a sweep."""
        return {**_STUDENT, **given} if isinstance(given, Mapping) else given
