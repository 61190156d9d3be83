"""Weights from files, with safe loaders only, and their fit to an architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import nn

from lpqld.errors import ConfigError, DataError, few
from lpqld.models import architectures
from lpqld.models.teacher_spec import METADATA_KEY, TeacherSpec
from lpqld.storage import load_tensors

_TORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PROBE_CLASSES = 9973  # a prime that no layer's width is likely to be
Weights = dict[str, torch.Tensor]


def read_weights(path: Path) -> tuple[Weights, TeacherSpec | None]:
    """The state dict in `path`, and the spec in its metadata if there is one.

    Raises:
        ConfigError: there is no such file, or its suffix is not one of a teacher's.
        DataError: it is damaged, holds other things, or would need unsafe loading.
    """
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
        content = load_tensors(str(path))
    except DataError as error:
        raise DataError(
            f"{path}: {error}. Download it again, or save its state dict alone (torch.save(model.state_dict(), ...))"
        ) from error
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


def count_classes(path: Path, architecture: str, weights: Weights) -> int:
    """Outputs of the classifier: the tensors whose first dimension follows the number of classes asked for.

    The network is built without storage to see which they are.

    Raises:
        ConfigError: `architecture` is unknown.
        DataError: `weights` have no such tensors.
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


def fill(path: Path, architecture: str, model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into `model`.

    Raises:
        DataError: names or shapes differ; the message has the first few.
    """
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
