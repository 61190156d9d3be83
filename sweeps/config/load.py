"""Presets, one YAML file each, and how a preset or a file becomes a configuration."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lpqld.errors import ConfigError
from lpqld.training import parse_schedule
from sweeps.config.study import StudyConfig
from sweeps.config.sweep import SweepConfig


def preset_names() -> list[str]:
    """Names of the presets that ship."""
    files = (resources.files("sweeps") / "presets").iterdir()
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
        raise ConfigError(f"{preset}: " + "; ".join(_explain(error, SweepConfig))) from error
    # What the library refuses is refused now, not after the relabeling.
    config.views.rule()
    try:
        parse_schedule(config.paper.temperature, config.student.epochs)
    except ConfigError as error:
        raise ConfigError(f"paper.temperature: {error}") from error
    return config


def load_study_config(path: str | None, settings: dict[str, Any]) -> StudyConfig:
    """The configuration of a study: a YAML file, if there is one, with `settings` (dotted keys) put over it.

    Raises:
        ConfigError: no such file, text that is not YAML, unknown keys or bad values.
    """
    document: dict[str, Any] = {}
    if path is not None:
        if not Path(path).is_file():
            raise ConfigError(f"--config {path}: no such file; expected a study's settings in YAML")
        document = _read(path)
        document.pop("name")
    for key, value in settings.items():
        _set(document, key, value)
    try:
        return StudyConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{path or 'study'}: " + "; ".join(_explain(error, StudyConfig))) from error


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
        text = (resources.files("sweeps") / "presets" / f"{preset}.yaml").read_text()
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


def _explain(error: ValidationError, config: type[BaseModel]) -> Iterator[str]:
    """One sentence per mistake, with the key that was probably meant."""
    for detail in error.errors():
        location = [str(part) for part in detail["loc"]]
        key = ".".join(location)
        if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _keys_of(config, location[:-1])
            close = difflib.get_close_matches(location[-1], known, n=1)
            group = f"in {'.'.join(location[:-1])} " if location[:-1] else ""
            hint = f"; did you mean {close[0]}?" if close else f"; the keys {group}are {', '.join(known)}"
            yield f"unknown key {key}{hint}"
        elif detail["type"] == "missing":
            yield f"{key} is required: give it as an option, with --set {key}=VALUE or in a YAML file"
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            # What a whole group is refused for names its values itself.
            found = "" if isinstance(detail["input"], dict) else f", found {json.dumps(detail['input'], default=str)}"
            yield f"{key}: {reason}{found}"


def _keys_of(config: type[BaseModel], location: list[str]) -> list[str]:
    model: Any = config
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = field.annotation
        if is_dataclass(model):
            return [field.name for field in fields(model)]
        if not hasattr(model, "model_fields"):
            return []
    return list(model.model_fields)
