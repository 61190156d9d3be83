"""The typed configuration of a sweep: a short YAML file, parsed once; unknown keys are refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lpqld.byte_sizes import parse_size
from lpqld.distill import RecoverRecipe
from lpqld.errors import ConfigError
from lpqld.training import Recipe
from lpqld.views import ViewRule

LAYOUTS = (
    "a Parquet file, a folder or a glob of them (`image` = encoded bytes, `label` = integer; the Hugging Face layout), "
    "an image folder (one sub-folder per class), or a folder that lpqld wrote"
)


class Strict(BaseModel):
    """A part of a configuration: unknown keys are refused, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RECOVER = "recover"


class ImagesConfig(Strict):
    """The images to label: their source, how many per class, their side.

    The source `recover` makes them from `real`, the teacher's training images, as the section `recover` says.
    """

    source: str | None = None
    ipc: int | None = Field(default=10, ge=1)
    size: int | None = Field(default=None, ge=1)
    seed: int = 0
    real: str | None = Field(
        default=None, description="real images, to recover from, and for the random-real baseline of distilled ones"
    )


class EvalConfig(Strict):
    """Evaluation images; without `val`, a stratified half of `source` is the validation set."""

    source: str | None = None
    val: str | None = None
    resize_ratio: float = Field(default=1.0, ge=1.0)
    seed: int = 0


class TeacherConfig(Strict):
    """A checkpoint with its specification, `experts` with an epoch, or `fit: true` to train one on `fit_images`.

    `experts` is a pattern of finished teachers with checkpoints beside them, as `lpqld teacher fit --keep-at` writes
    them; several are an ensemble. `epoch` is that of the checkpoints, the last by default; "search" labels with those
    of every epoch and makes the epoch one of the things that trials choose.
    """

    source: str | None = None
    experts: str | None = None
    epoch: Annotated[int, Field(ge=1)] | Literal["search"] | None = None
    architecture: str | None = None
    input_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    classes: str | None = None
    fit: bool = False
    fit_images: str | None = None
    fit_epochs: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _one_teacher(self) -> TeacherConfig:
        if self.source is not None and self.experts is not None:
            raise ValueError("source and experts: a sweep has one teacher, give one of them")
        if self.epoch is not None and self.experts is None:
            raise ValueError("epoch is of experts, and there are none: give experts, or leave it out")
        return self


class ViewsConfig(Strict):
    """The distribution of views, see `lpqld.views.ViewRule`."""

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: bool = True
    mix: Literal["none", "cutmix", "mixup"] = "cutmix"
    mix_alpha: float = 1.0
    cutout: bool = False

    def rule(self) -> ViewRule:
        """The library's rule."""
        return ViewRule(**self.model_dump())


class RelabelConfig(Strict):
    """The master label set: `views` per image (default: the student's epochs), dense fp16 unless `k` is given.

    `folder`, a path or a URI that every node sees, holds the master label sets; by default `labels` in the root.
    `labels`, a finished label set of the sweep's images, such as an imported one, is the master instead; the sweep then
    needs no teacher. `shard_views` is chosen by the size of the job where it is not given.
    """

    views: int | None = Field(default=None, ge=1)
    k: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=100, ge=1)
    shard_views: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1)
    folder: str | None = None
    labels: str | None = None


class SearchConfig(Strict):
    """Budgets, and the space that `trials` per budget explore.

    `sampler`: "tpe" learns from trials, its budget's and others'; "random" is there to compare with. `codec`: any of
    `lpqld compress --codec` that keep k classes, or "lowrank" of k directions; all but "topk" need labels of all
    classes (no `relabel.k`).
    """

    budgets: tuple[str, ...] = Field(default=("x40",), min_length=1)
    trials: int = Field(default=8, ge=1)
    sampler: Literal["tpe", "random"] = "tpe"
    k: tuple[int, ...] = Field(default=(2, 3, 5, 10), min_length=1)
    bits: tuple[int, ...] = Field(default=(3, 4, 6, 8), min_length=1)
    codec: tuple[Literal["topk", "topk-min", "topk-share", "topk-tail", "lowrank"], ...] = Field(
        default=("topk",), min_length=1
    )
    temperature_start: tuple[float, float] = (4.0, 20.0)
    temperature_end: tuple[float, float] = (0.5, 4.0)
    temperature_shape: tuple[Literal["constant", "step", "cosine"], ...] = ("constant", "step", "cosine")
    ca: tuple[Literal["fit", "paper", "off"], ...] = ("fit", "paper", "off")
    lr: tuple[float, float] = (5e-4, 4e-3)
    hard_every: tuple[int, ...] = Field(default=(), description="of students; by default the recipe's alone")
    early_stopping: bool = True

    @field_validator("budgets", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else value

    @field_validator("k", "bits")
    @classmethod
    def _sorted(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("expected numbers of at least 1")
        return tuple(sorted(set(value)))

    @field_validator("bits")
    @classmethod
    def _bits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(2 <= bits <= 16 for bits in value):
            raise ValueError("bits must be 2 to 16")
        return value

    @field_validator("hard_every")
    @classmethod
    def _hard_every(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(every == 0 or every >= 2 for every in value):
            raise ValueError("expected numbers of 2 or more, or 0 for never")
        return value

    @field_validator("temperature_start", "temperature_end", "lr")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected 0 < low <= high")
        return value

    @field_validator("budgets")
    @classmethod
    def _budgets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for budget in value:
            _check_budget(budget)
        return value

    def budget_bytes(self, all_label_bytes: int) -> tuple[int, ...]:
        """Budgets in bytes, largest first; `x40` is a fortieth of all labels."""
        sizes = {_budget_bytes(budget, all_label_bytes) for budget in self.budgets}
        return tuple(sorted(sizes, reverse=True))


class PaperConfig(Strict):
    """The paper's own setting, a baseline at every budget; `k` is the paper's for 1,000 classes."""

    k: int = Field(default=100, ge=1)
    temperature: str = "20:2:step"

    def k_for(self, num_classes: int) -> int:
        """k for fewer or more classes: max(2, round(k C / 1000)), at most C."""
        return min(num_classes, max(2, round(self.k * num_classes / 1000)))


class ConfirmConfig(Strict):
    """The best configuration of every budget is retrained over `seeds` seeds; so is every baseline."""

    seeds: int = Field(default=3, ge=1)
    baselines: bool = True


class ResourcesConfig(Strict):
    """What one trial holds of a node."""

    cpus_per_trial: float = Field(default=1, gt=0)
    gpus_per_trial: float | None = None


class SweepConfig(Strict):
    """A whole sweep."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    num_classes: int | None = Field(default=None, ge=2, description="for `plan`, before there are images")
    seed: int = 0
    images: ImagesConfig = ImagesConfig()
    eval: EvalConfig = EvalConfig()
    teacher: TeacherConfig = TeacherConfig()
    views: ViewsConfig = ViewsConfig()
    recover: RecoverRecipe = RecoverRecipe()
    relabel: RelabelConfig = RelabelConfig()
    student: Recipe = Recipe()
    search: SearchConfig = SearchConfig()
    paper: PaperConfig = PaperConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @property
    def views_per_image(self) -> int:
        """V of the master label set."""
        return self.relabel.views or self.student.epochs

    @property
    def recovers(self) -> bool:
        """Whether the images are to be recovered from the teacher's training images."""
        return self.images.source == RECOVER

    @property
    def has_teacher(self) -> bool:
        """Whether there is a teacher; with `relabel.labels` there need not be one, and none is fitted."""
        fitted = self.teacher.fit and self.relabel.labels is None
        return self.teacher.source is not None or self.teacher.experts is not None or fitted

    @property
    def searches_epoch(self) -> bool:
        """Whether trials choose the epoch of the experts."""
        return self.teacher.epoch == "search"

    def require_data(self) -> None:
        """Refuse to start without images, evaluation images and a teacher, saying what to pass.

        Raises:
            ConfigError: naming every missing option and the layouts it takes.
        """
        missing = []
        if self.images.source is None:
            missing.append(f"--images PATH: the images to label, {LAYOUTS}")
        if self.recovers and self.images.real is None:
            missing.append(f"--set images.real=PATH: the teacher's training images, to recover from, {LAYOUTS}")
        if self.eval.source is None:
            missing.append(f"--eval PATH: the evaluation images, {LAYOUTS}")
        if self.searches_epoch and self.relabel.labels is not None:
            raise ConfigError("relabel.labels are of one teacher: leave out teacher.epoch=search")
        if self.relabel.labels is not None and (self.recovers or self.images.real is not None):
            raise ConfigError("relabel.labels are of images that are there: leave out images.real and recover")
        if not self.has_teacher and self.relabel.labels is None:
            arch = f" (this preset expects {self.teacher.architecture})" if self.teacher.architecture else ""
            missing.append(
                f"--teacher FILE: a .safetensors or .pth checkpoint, with --teacher-arch NAME unless its metadata says "
                f"so{arch}; or train one with `lpqld teacher fit`"
            )
        if missing:
            lines = "\n  ".join(missing)
            raise ConfigError(f"{self.name} needs data of yours. Pass\n  {lines}")
        if self.recovers and self.images.ipc is None:
            raise ConfigError("images.source=recover needs images.ipc, how many to recover of every class")


def _check_budget(budget: str) -> None:
    """Raise ValueError where `budget` is neither a size nor `x` and a ratio."""
    if budget.startswith("x"):
        try:
            if float(budget[1:]) >= 1:
                return
        except ValueError:
            pass
        raise ValueError(f"budget {budget!r}: expected x and a number of at least 1, such as x40")
    parse_size(budget)


def _budget_bytes(budget: str, all_label_bytes: int) -> int:
    return round(all_label_bytes / float(budget[1:])) if budget.startswith("x") else parse_size(budget)
