"""A teacher: weights, and all that turns views into what those weights expect.

Architecture, input size, mean and std, interpolation and class names travel in the safetensors metadata of a teacher
that this project saved; for weights from elsewhere they come from flags. Files are read with safe loaders only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.store import canonical_json, fingerprint, write_atomically

METADATA_KEY = "lpqld"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")
Triple = tuple[float, float, float]


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
            tensor = tensor.detach().cpu().contiguous()
            parts.append(canonical_json([name, str(tensor.dtype), list(tensor.shape)]))
            parts.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
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
        logits = self.model((views - self.mean) / self.std)
        return logits if self.columns is None else logits[:, self.columns]


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


def accuracy(
    model: nn.Module, images: ImageSet, batch_size: int = 500, device: torch.device | str | None = None
) -> float:
    """Share of `images` whose largest logit is their label's, in [0, 1].

    Args:
        model: takes pixels in [0, 1] as float [B, 3, S, S], as a `Teacher` does (wrap a bare network in one, with a
            spec, to have its pixels normalised), and returns a logit for each class of `images`.
        images: N images.
        batch_size: images at once, 1 or more.
        device: where to run; None stays where the model is.

    Raises:
        DataError: there are no images, or the model has another number of classes.
    """
    if images.num_images == 0:
        raise DataError(f"{images.source}: expected images to measure accuracy on, found none")
    if device is not None:
        model.to(device)
    target = next(model.parameters()).device
    correct = 0
    with _evaluating(model), torch.inference_mode():
        for start in range(0, images.num_images, batch_size):
            pixels = images.pixels[start : start + batch_size].to(target)
            logits = model(pixels.float() / 255)
            if logits.shape[1] != images.num_classes:
                raise DataError(
                    f"{images.source} has {images.num_classes} classes and the model {logits.shape[1]}:"
                    " pass --classes FILE, or images of the model's classes"
                )
            correct += int((logits.argmax(1).cpu() == images.labels[start : start + batch_size]).sum())
    return correct / images.num_images


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


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _triple(values: Sequence[float]) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
