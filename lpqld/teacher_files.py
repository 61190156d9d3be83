"""Teachers from files, with safe loaders only: weights, what they are, and which outputs the images' classes need."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import nn

from lpqld import architectures
from lpqld.classes import are_default, are_wordnet, few, positions, read_names, timm_names
from lpqld.errors import ConfigError, DataError
from lpqld.teacher import INTERPOLATIONS, METADATA_KEY, Teacher, TeacherSpec

_TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PROBE_CLASSES = 9973  # a prime that no layer's width is likely to be
Weights = dict[str, torch.Tensor]


def load_teacher(
    path: Path | str,
    *,
    architecture: str | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    classes: str | None = None,
    image_class_names: Sequence[str],
) -> Teacher:
    """The teacher at `path`, cut to the classes of the images.

    What an argument leaves out comes from the file's metadata, else from the architecture: timm's configuration of a
    model that has its original number of outputs gives its input size too; built-in ones take ImageNet's mean and std
    and views of any size.

    Args:
        path: safetensors, or a torch file that `torch.load(weights_only=True)` reads.
        architecture: a name for `architectures.build`.
        input_size: pixels; views of other sizes are resized to it.
        mean, std: 3 numbers each, for pixels in [0, 1].
        interpolation: "bilinear" or "bicubic".
        classes: a file naming the teacher's outputs in order, or a label list of timm's such as `imagenet-1k`.
        image_class_names: the classes that logits are wanted for, in order.

    Raises:
        ConfigError: no such file, no architecture, or an argument out of range.
        DataError: unsafe, damaged or non-matching weights, or outputs that cannot be matched to the images' classes.
    """
    path = Path(path)
    weights, saved = _read(path)
    name = architecture or (saved.architecture if saved else None)
    if name is None:
        raise ConfigError(
            f"{path} does not say which architecture its weights are for: pass --teacher-arch (--arch for relabel and"
            f" train), one of {', '.join(architectures.names())} or a timm model name"
        )
    num_classes = _count_classes(path, name, weights)
    if saved is not None and saved.num_classes != num_classes:
        raise DataError(f"{path}: its metadata says {saved.num_classes} classes, its weights have {num_classes}")
    model = architectures.build(name, num_classes)
    _fill(path, name, model, weights)
    base = saved if saved is not None and saved.architecture == name else _default_spec(name, model, num_classes)
    changes: dict[str, Any] = {"input_size": input_size, "interpolation": interpolation}
    changes |= {key: None if values is None else tuple(values) for key, values in (("mean", mean), ("std", std))}
    spec = replace(base, **{key: value for key, value in changes.items() if value is not None})
    names = _output_names(path, spec, classes, image_class_names)
    spec = replace(spec, class_names=names)
    selection = _select_outputs(path, spec, classes is not None, tuple(image_class_names))
    return Teacher(model.requires_grad_(False), spec, selection)


def _read(path: Path) -> tuple[Weights, TeacherSpec | None]:
    """The state dict in `path`, and the spec in its metadata if there is one."""
    if not path.is_file():
        raise ConfigError(f"no teacher at {path}: expected a file of weights (.safetensors or a torch state dict)")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix not in _TORCH_SUFFIXES:
        raise ConfigError(
            f"{path}: expected a teacher named .safetensors or {', '.join(_TORCH_SUFFIXES)}, found {suffix or 'no'}"
            " suffix; rename it to what it is"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is not a safe file of weights and was not loaded: {_reason(error)}. Save its state dict alone"
            " (torch.save(model.state_dict(), ...)) or as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as torch weights: {_reason(error)}. Download or save it again") from error
    return _unwrap(path, content), None


def _read_safetensors(path: Path) -> tuple[Weights, TeacherSpec | None]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}. Download or save it again") from error
    text = metadata.get(METADATA_KEY)
    if text is None:
        return _unwrap(path, weights), None
    try:
        return weights, TeacherSpec.from_json(json.loads(text))
    except (DataError, ValueError) as error:
        raise DataError(f"{path}: its metadata {METADATA_KEY!r} is {error}; save the teacher again") from error


def _reason(error: BaseException) -> str:
    """The line of torch's explanation that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "WeightsUnpickler error" in line or "Unsupported" in line]
    return ((named or lines or [type(error).__name__])[0])[:300]


def _unwrap(path: Path, content: Any) -> Weights:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path}: expected a state dict, found {type(content).__name__}; save model.state_dict()")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise DataError(f"{path}: expected a state dict of tensors, found other things: {few(wrong)}")
    if all(str(name).startswith("module.") for name in content):
        return {str(name).removeprefix("module."): value for name, value in content.items()}
    return {str(name): value for name, value in content.items()}


def _count_classes(path: Path, architecture: str, weights: Weights) -> int:
    """Outputs of the classifier: the tensors whose first dimension follows the number of classes asked for.

    The network is built without storage to see which they are.
    """
    with torch.device("meta"):
        shapes = architectures.build(architecture, _PROBE_CLASSES).state_dict()
    classifier = [name for name, tensor in shapes.items() if tensor.ndim and tensor.shape[0] == _PROBE_CLASSES]
    counts = {int(weights[name].shape[0]) for name in classifier if name in weights and weights[name].ndim}
    if len(counts) != 1 or 0 in counts:
        raise DataError(
            f"{path}: the weights are not a {architecture} classifier: expected {few(classifier)} with one row a"
            f" class, found {few(list(weights)[-4:])}; check the architecture"
        )
    return counts.pop()


def _fill(path: Path, architecture: str, model: nn.Module, weights: Weights) -> None:
    expected = model.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # old checkpoints lack them
    problems = [f"missing {name}" for name in expected if name not in weights and name not in counters]
    problems += [f"unexpected {name}" for name in weights if name not in expected]
    problems += [
        f"{name} is {list(weights[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        raise DataError(f"{path} does not fit {architecture}: {few(problems, 4)}; check the architecture")
    model.load_state_dict(weights, strict=False)


def _default_spec(architecture: str, model: nn.Module, num_classes: int) -> TeacherSpec:
    spec = TeacherSpec(architecture, num_classes)
    config: Any = getattr(model, "default_cfg", None)
    if architectures.is_built_in(architecture) or not config:
        return spec
    original = config.get("fixed_input_size") or config.get("num_classes") == num_classes
    interpolation = config.get("interpolation")
    return replace(
        spec,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bilinear",
        input_size=config["input_size"][-1] if original else None,
    )


def _output_names(
    path: Path, spec: TeacherSpec, classes: str | None, image_class_names: Sequence[str]
) -> tuple[str, ...] | None:
    """Names of the network's outputs: from --classes, else its metadata, else ImageNet's where the images' are so."""
    if classes is not None:
        file = Path(classes)
        names = read_names(file, image_class_names) if file.is_file() else timm_names(classes)
        if len(names) != spec.num_classes:
            raise DataError(
                f"--classes {classes} has {len(names)} names and the teacher {path} {spec.num_classes} outputs:"
                " it must name every output in order"
            )
        return names
    if spec.class_names is not None:
        return spec.class_names
    is_timm = not architectures.is_built_in(spec.architecture)
    if is_timm and spec.num_classes == 1000 and are_wordnet(image_class_names):
        return timm_names("imagenet-1k")
    return None


def _select_outputs(path: Path, spec: TeacherSpec, explicit: bool, wanted: tuple[str, ...]) -> tuple[int, ...] | None:
    """The network's output for each wanted class; None where they are the outputs as they stand.

    Numbers that stand for absent names match nothing but each other, unless the map was asked for.
    """
    names = spec.class_names
    nameless = names is None or (are_default(names) != are_default(wanted) and not explicit)
    if nameless or names is None:
        if spec.num_classes != len(wanted):
            raise DataError(
                f"teacher {path} has {spec.num_classes} classes, the images {len(wanted)}, and no names match them:"
                " pass --classes FILE with the teacher's class names in order"
            )
        return None
    places = positions(wanted, names)
    missing = [name for name, place in zip(wanted, places, strict=True) if place is None]
    if missing:
        raise DataError(
            f"teacher {path} has no output for {len(missing)} of the {len(wanted)} classes of the images:"
            f" {few(missing)} (its own: {few(names)}); pass --classes FILE with its class names in order"
        )
    found = tuple(place for place in places if place is not None)
    return None if found == tuple(range(spec.num_classes)) else found
