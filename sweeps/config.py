"""The typed configuration of a sweep: a short YAML file, parsed once; unknown keys are refused by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lpqld.errors import ConfigError
from lpqld.sizes import parse_size
from lpqld.student import Recipe
from lpqld.temperature import parse_schedule
from lpqld.views import ViewRule

LAYOUTS = (
    "a Parquet file, a folder or a glob of them (`image` = encoded bytes, `label` = integer; the Hugging Face layout), "
    "an image folder (one sub-folder per class), or a folder that lpqld wrote"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImagesConfig(_Strict):
    """The images to label: their source, how many per class, their side."""

    source: str | None = None
    ipc: int | None = Field(default=10, ge=1)
    size: int | None = Field(default=None, ge=1)
    seed: int = 0
    real: str | None = Field(default=None, description="real images, for the random-real baseline of distilled ones")


class EvalConfig(_Strict):
    """Evaluation images; without `val`, a stratified half of `source` is the validation set."""

    source: str | None = None
    val: str | None = None
    resize_ratio: float = Field(default=1.0, ge=1.0)
    seed: int = 0


class TeacherConfig(_Strict):
    """A checkpoint with its specification, or `fit: true` to train one on `fit_images`."""

    source: str | None = None
    architecture: str | None = None
    input_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    classes: str | None = None
    fit: bool = False
    fit_images: str | None = None
    fit_epochs: int = Field(default=30, ge=1)


class ViewsConfig(_Strict):
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


class RelabelConfig(_Strict):
    """The master label set: `views` per image (default: the student's epochs), dense fp16 unless `k` is given."""

    views: int | None = Field(default=None, ge=1)
    k: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=100, ge=1)
    shard_views: int = Field(default=8192, ge=1)
    workers: int | None = Field(default=None, ge=1)


class StudentConfig(_Strict):
    """The student recipe that trials vary, see `lpqld.student.Recipe`."""

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
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def recipe(self) -> Recipe:
        """The library's recipe."""
        return Recipe(**self.model_dump())


class SearchConfig(_Strict):
    """Budgets, and the space that `trials` per budget explore."""

    budgets: tuple[str, ...] = Field(default=("x40",), min_length=1)
    trials: int = Field(default=8, ge=1)
    k: tuple[int, ...] = Field(default=(2, 3, 5, 10), min_length=1)
    bits: tuple[int, ...] = Field(default=(3, 4, 6, 8), min_length=1)
    temperature_start: tuple[float, float] = (4.0, 20.0)
    temperature_end: tuple[float, float] = (0.5, 4.0)
    temperature_shape: tuple[Literal["constant", "step", "cosine"], ...] = ("constant", "step", "cosine")
    ca: tuple[Literal["fit", "paper", "off"], ...] = ("fit", "paper", "off")
    lr: tuple[float, float] = (5e-4, 4e-3)
    early_stopping: bool = True

    @field_validator("budgets", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else value

    @field_validator("k", "bits")
    @classmethod
    def _sorted(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError(f"expected numbers of at least 1, found {value}")
        return tuple(sorted(set(value)))

    @field_validator("bits")
    @classmethod
    def _bits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(2 <= bits <= 16 for bits in value):
            raise ValueError(f"bits must be 2 to 16, found {value}")
        return value

    @field_validator("temperature_start", "temperature_end", "lr")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(f"expected 0 < low <= high, found {value}")
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


class PaperConfig(_Strict):
    """The paper's own setting, a baseline at every budget; `k` is the paper's for 1,000 classes."""

    k: int = Field(default=100, ge=1)
    temperature: str = "20:2:step"

    def k_for(self, num_classes: int) -> int:
        """k for fewer or more classes: max(2, round(k C / 1000)), at most C."""
        return min(num_classes, max(2, round(self.k * num_classes / 1000)))


class ConfirmConfig(_Strict):
    """The best configuration of every budget is retrained over `seeds` seeds; so is every baseline."""

    seeds: int = Field(default=3, ge=1)
    baselines: bool = True


class ResourcesConfig(_Strict):
    """What one trial holds of a node."""

    cpus_per_trial: float = Field(default=1, gt=0)
    gpus_per_trial: float | None = None


class SweepConfig(_Strict):
    """A whole sweep."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    num_classes: int | None = Field(default=None, ge=2, description="for `plan`, before there are images")
    seed: int = 0
    images: ImagesConfig = ImagesConfig()
    eval: EvalConfig = EvalConfig()
    teacher: TeacherConfig = TeacherConfig()
    views: ViewsConfig = ViewsConfig()
    relabel: RelabelConfig = RelabelConfig()
    student: StudentConfig = StudentConfig()
    search: SearchConfig = SearchConfig()
    paper: PaperConfig = PaperConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @property
    def views_per_image(self) -> int:
        """V of the master label set."""
        return self.relabel.views or self.student.epochs

    def require_data(self) -> None:
        """Refuse to start without images, evaluation images and a teacher, saying what to pass.

        Raises:
            ConfigError: naming every missing option and the layouts it takes.
        """
        missing = []
        if self.images.source is None:
            missing.append(f"--images PATH: the images to label, {LAYOUTS}")
        if self.eval.source is None:
            missing.append(f"--eval PATH: the evaluation images, {LAYOUTS}")
        if self.teacher.source is None and not self.teacher.fit:
            arch = f" (this preset expects {self.teacher.architecture})" if self.teacher.architecture else ""
            missing.append(
                f"--teacher FILE: a .safetensors or .pth checkpoint, with --teacher-arch NAME unless its metadata says "
                f"so{arch}; or train one with `lpqld teacher fit`"
            )
        if missing:
            lines = "\n  ".join(missing)
            raise ConfigError(f"{self.name} needs data of yours. Pass\n  {lines}")


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


def preset_names() -> list[str]:
    """Names of the presets that ship."""
    files = resources.files("sweeps.presets").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_config(preset: str, settings: dict[str, Any] | None = None) -> SweepConfig:
    """A preset by name or a YAML file by path, with `settings` (dotted keys) put over it.

    Raises:
        ConfigError: no such preset or file, text that is not YAML, unknown keys or bad values.
    """
    document = _read_with_bases(preset)
    for key, value in (settings or {}).items():
        _set(document, key, value)
    try:
        config = SweepConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{preset}: " + "; ".join(_explain(error))) from error
    # What the library refuses is refused now, not after the relabeling.
    recipe = config.student.recipe()
    config.views.rule()
    try:
        parse_schedule(config.paper.temperature, recipe.epochs)
    except ConfigError as error:
        raise ConfigError(f"paper.temperature: {error}") from error
    return config


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """`--set key=value` as dotted keys and YAML values.

    Raises:
        ConfigError: not of that form.
    """
    settings = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment}: expected key=value, such as --set student.epochs=100")
        try:
            settings[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: the value is not YAML: {error}") from error
    return settings


def _read(preset: str) -> dict[str, Any]:
    if preset in preset_names():
        text = (resources.files("sweeps.presets") / f"{preset}.yaml").read_text()
    elif Path(preset).is_file():
        text = Path(preset).read_text()
    else:
        close = difflib.get_close_matches(preset, preset_names(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{preset!r} is neither a preset ({', '.join(preset_names())}) nor a YAML file{hint}")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{preset}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{preset}: expected a mapping of settings, found {type(document).__name__}")
    document.setdefault("name", Path(preset).stem)
    return document


def _read_with_bases(preset: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """A document put over the one that its `base` names, and so on."""
    if preset in above:
        raise ConfigError(f"{preset}: its base leads back to itself ({' -> '.join([*above, preset])})")
    document = _read(preset)
    base = document.pop("base", None)
    return document if base is None else _merge(_read_with_bases(str(base), (*above, preset)), document)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        child = document.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: {parent} is a value, not a group of settings")
        document = child
    document[last] = value


def _explain(error: ValidationError) -> Iterator[str]:
    """One sentence per mistake, with the key that was probably meant."""
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]]
        key = ".".join(location)
        if detail["type"] == "extra_forbidden":
            known = _keys_of(location[:-1])
            close = difflib.get_close_matches(location[-1], known, n=1)
            group = f"in {'.'.join(location[:-1])} " if location[:-1] else ""
            hint = f"; did you mean {close[0]}?" if close else f"; the keys {group}are {', '.join(known)}"
            yield f"unknown key {key}{hint}"
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            yield f"{key}: {reason}, found {json.dumps(detail['input'], default=str)}"


def _keys_of(location: list[str]) -> list[str]:
    model: Any = SweepConfig
    for part in location:
        field = model.model_fields.get(part)
        if field is None or not hasattr(field.annotation, "model_fields"):
            return []
        model = field.annotation
    return list(model.model_fields)
