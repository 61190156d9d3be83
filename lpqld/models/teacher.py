"""A teacher: weights, and all that turns views into what those weights expect.

Architecture, input size, mean and std, interpolation and class names travel in the safetensors metadata of a teacher
that this project saved; for weights from elsewhere they come from arguments. Files are read with safe loaders only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError, DataError, few
from lpqld.images import are_default, are_wordnet, positions, read_names, timm_names
from lpqld.models import architectures
from lpqld.models.normalise import normalised
from lpqld.models.teacher_spec import INTERPOLATIONS, METADATA_KEY, TeacherSpec
from lpqld.models.weights import count_classes, fill, read_weights
from lpqld.storage import canonical_json, fingerprint, write_atomically


class Teacher(nn.Module):
    """A network in evaluation mode that takes views in [0, 1] and returns logits of the image set's classes."""

    def __init__(self, model: nn.Module, spec: TeacherSpec, selection: Sequence[int] | None = None) -> None:
        """`selection`: the network's output for each class of the image set; None takes them as they are."""
        super().__init__()
        self.model = model
        self.spec = spec
        self.selection = None if selection is None else tuple(selection)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.columns: torch.Tensor | None
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        columns = None if self.selection is None else torch.tensor(self.selection)
        self.register_buffer("columns", columns, persistent=False)
        self.eval()

    @property
    def num_classes(self) -> int:
        """Logits a view, after the cut to the image set's classes."""
        return self.spec.num_classes if self.selection is None else len(self.selection)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the spec, the choice of outputs, and every weight's name, type, shape and bytes."""
        parts = [canonical_json(self.spec.to_json()), canonical_json(self.selection)]
        for name, tensor in sorted(self.model.state_dict().items()):
            parts.append(canonical_json([name, str(tensor.dtype), list(tensor.shape)]))
            parts.append(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return fingerprint(*parts)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode: a teacher's batch statistics are fixed."""
        super().train(False)
        return self

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Views, float [B, 3, H, W] in [0, 1], to logits [B, num_classes]."""
        size = self.spec.input_size
        if size is not None and tuple(views.shape[-2:]) != (size, size):
            shrinks = max(views.shape[-2:]) > size
            resized = F.interpolate(
                views, (size, size), mode=self.spec.interpolation, align_corners=False, antialias=shrinks
            )
            views = resized.clamp(0, 1)  # bicubic overshoots, as no image does
        return self.logits(normalised(views, self.mean, self.std))

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits [B, num_classes] of normalised inputs, float [B, 3, H, W]."""
        logits: torch.Tensor = self.model(inputs)
        return logits if self.columns is None else logits[:, self.columns]


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
    weights, saved = read_weights(path)
    name = architecture or (saved.architecture if saved else None)
    if name is None:
        raise ConfigError(
            f"{path} does not say which architecture its weights are for: pass `architecture`,"
            f" one of {', '.join(architectures.names())} or a timm model name"
        )
    num_classes = count_classes(path, name, weights)
    if saved is not None and saved.num_classes != num_classes:
        raise DataError(f"{path}: its metadata says {saved.num_classes} classes, its weights have {num_classes}")
    model = architectures.build(name, num_classes)
    fill(path, name, model, weights)
    base = saved if saved is not None and saved.architecture == name else _default_spec(name, model, num_classes)
    changes: dict[str, Any] = {"input_size": input_size, "interpolation": interpolation}
    changes |= {key: None if values is None else tuple(values) for key, values in (("mean", mean), ("std", std))}
    spec = replace(base, **{key: value for key, value in changes.items() if value is not None})
    names = _output_names(path, spec, classes, image_class_names)
    spec = replace(spec, class_names=names)
    selection = _select_outputs(path, spec, classes is not None, tuple(image_class_names))
    return Teacher(model.requires_grad_(False), spec, selection)


def save_teacher(path: Path, model: nn.Module, spec: TeacherSpec) -> None:
    """Write weights and spec to the safetensors file `path`, whole or not at all.

    Raises:
        ConfigError: `path` does not end in .safetensors, or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ConfigError(f"a teacher is written as safetensors: expected a name ending in .safetensors, found {path}")
    weights = model.model if isinstance(model, Teacher) else model
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors, {METADATA_KEY: canonical_json(spec.to_json()).decode()}))


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
        if (device.index or 0) < present.get(device.type, 0):
            return device
    except RuntimeError:
        pass
    raise ConfigError(f"no device {name!r} here: expected auto, cpu, cuda (cuda:1 ...) or mps where present")


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
    """Names of the network's outputs: from `classes`, else its metadata, else ImageNet's where the images' are so."""
    if classes is not None:
        file = Path(classes)
        names = read_names(file, image_class_names) if file.is_file() else timm_names(classes)
        if len(names) != spec.num_classes:
            raise DataError(
                f"`classes={classes}` has {len(names)} names and the teacher {path} {spec.num_classes} outputs:"
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
                " pass `classes=FILE` with the teacher's class names in order"
            )
        return None
    places = positions(wanted, names)
    missing = [name for name, place in zip(wanted, places, strict=True) if place is None]
    if missing:
        raise DataError(
            f"teacher {path} has no output for {len(missing)} of the {len(wanted)} classes of the images:"
            f" {few(missing)} (its own: {few(names)}); pass `classes=FILE` with its class names in order"
        )
    selection = tuple(place for place in places if place is not None)
    return None if selection == tuple(range(spec.num_classes)) else selection
