"""The configuration of a study of the soft-label baseline ("A Label is Worth a Thousand Images", arXiv 2406.10485)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lpqld.recipe import Recipe
from sweeps.config import EvalConfig, Strict

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


class StudyConfig(Strict):
    """Random real images, one soft label each, students of them; what is varied depends on the study."""

    images: str
    size: int | None = Field(default=None, ge=1)
    seed: int = 0
    ipc: tuple[Positive, ...] = Field(default=(1, 10, 50), min_length=1)
    eval: EvalConfig
    experts: ExpertsConfig = ExpertsConfig()
    student: Recipe = Recipe(temperature="1", ca="off", epochs=300)
    seeds: Positive = 3
    epoch: Positive | None = Field(default=None, description="the experts' where it is not varied; default: the last")
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    members: tuple[Positive, ...] = (1, 2, 4, 8)
    ranks: tuple[Positive, ...] | None = Field(default=None, description="swapped; default: 1, 2, 5, 10 ... below C")
    smoothing: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.1, 0.3)
    k: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="classes kept, 0 for hard labels; default: 0, 1, 2, 5, 10 ... C"
    )
    removed: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), description="classes of zero-shot")
