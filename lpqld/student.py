"""Students: the recipe, the loss, and the training loop that reads from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from lpqld.architectures import build
from lpqld.dataset import ViewDataset
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.teacher import accuracy
from lpqld.temperature import fit_student_temperature, grid_student_temperature, parse_schedule

CALIBRATIONS = ("fit", "paper", "off")
_CALIBRATION_VIEWS = 2048


class DivergedError(DataError):
    """A student's loss is no longer finite: its learning rate is too high, or its labels are wrong."""


@dataclass(frozen=True)
class Recipe:
    """How a student is trained.

    Attributes:
        architecture: a built-in or timm name.
        epochs: passes over the images, each with one view per image.
        batch_size: views per step.
        optimizer: "adamw" or "sgd" (Nesterov off).
        lr: peak learning rate; falls to 0 by half a cosine, per step.
        weight_decay: not applied to one-dimensional parameters.
        momentum: of SGD.
        warmup_epochs: linear warm-up.
        temperature: the teacher's, see `temperature.parse_schedule`.
        ca: calibration of the student's temperature: "fit", "paper" or "off" (equal to the teacher's).
        square_temperature: multiply the loss by the teacher temperature squared (the Tiny-ImageNet SGD recipe).
        mean, std: normalisation of the student's input.
    """

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

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs and batch size must be at least 1, found {self.epochs} and {self.batch_size}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(f"warmup_epochs must be 0 to {self.epochs - 1}, found {self.warmup_epochs}")
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            found = f"{self.lr}, {self.weight_decay} and {self.momentum}"
            raise ConfigError(f"lr must be above 0, weight_decay 0 or more, momentum in [0, 1), found {found}")
        if self.optimizer not in ("adamw", "sgd"):
            raise ConfigError(f"optimizer must be adamw or sgd, found {self.optimizer!r}")
        if self.ca not in CALIBRATIONS:
            raise ConfigError(f"ca must be one of {', '.join(CALIBRATIONS)}, found {self.ca!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"mean and std are three numbers each and std must be above 0, found {self.mean}, {self.std}"
            )
        parse_schedule(self.temperature, self.epochs)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            DataError: unknown fields.
        """
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in document.items()}
        try:
            return cls(**fields)
        except TypeError as error:
            raise DataError(f"the student recipe in this manifest is not one that this lpqld knows: {error}") from error


@dataclass(frozen=True)
class EpochMetrics:
    """What an epoch of training measured; `val_accuracy` (a fraction) only in epochs that evaluate."""

    epoch: int
    loss: float
    teacher_temperature: float
    student_temperature: float
    lr: float
    val_accuracy: float | None = None


class Student(nn.Module):
    """A network that takes views in [0, 1] and normalises them itself: [B, 3, S, S] to logits [B, C]."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, num_classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build(recipe.architecture, num_classes)
        self.register_buffer("mean", torch.tensor(recipe.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(recipe.std)[:, None, None], persistent=False)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of views in [0, 1]."""
        logits: torch.Tensor = self.network((views - self.mean) / self.std)
        return logits


def kl_divergence(
    student_logits: torch.Tensor, target_ids: torch.Tensor, targets: torch.Tensor, student_temperature: float
) -> torch.Tensor:
    """Mean over views of KL(targets || softmax(student_logits / student_temperature)), from sparse targets.

    Args:
        student_logits: [B, C].
        target_ids: classes with a probability, int64 [B, k].
        targets: their probabilities, [B, k], rows summing to 1.
        student_temperature: tau.
    """
    log_predictions = F.log_softmax(student_logits / student_temperature, dim=1).gather(1, target_ids)
    return (torch.xlogy(targets, targets) - targets * log_predictions).sum(1).mean()


def train(
    student: Student,
    data: ViewDataset,
    recipe: Recipe,
    *,
    seed: int,
    validation: ImageSet | None = None,
    evaluate_every: int | None = None,
) -> Iterator[EpochMetrics]:
    """Train `student` in place on the device of `data`, yielding metrics after every epoch.

    Args:
        student: the network, see `Student`.
        data: views and labels.
        recipe: hyperparameters.
        seed: order of the batches.
        validation: evaluated every `evaluate_every` epochs, and after the last where that is given.
        evaluate_every: in epochs; None never evaluates.

    Raises:
        DivergedError: the loss is not finite.
    """
    device = data.device
    student.to(device)
    optimizer = _optimizer(student, recipe)
    steps_per_epoch = len(data.batches(0, recipe.batch_size, seed))
    teacher_schedule = parse_schedule(recipe.temperature, recipe.epochs)
    # The paper starts calibration after the first epoch: tau = 1 in it.
    student_temperature = 1.0
    mixed_precision = torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
    for epoch in range(recipe.epochs):
        teacher_temperature = teacher_schedule(epoch)
        if recipe.ca == "off":
            student_temperature = teacher_temperature
        elif recipe.ca == "fit" and epoch > 0:
            student_temperature = _calibrate(student, data, recipe, epoch, seed, teacher_temperature)
        student.train()
        total_loss, lr = torch.zeros((), device=device), 0.0
        for step, batch in enumerate(data.epoch(epoch, recipe.batch_size, seed)):
            lr = recipe.lr * _lr_factor((epoch * steps_per_epoch + step) / steps_per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = lr
            ids, targets = batch.sparse_targets(teacher_temperature)
            with mixed_precision:
                logits = student(batch.views).float()
            loss = kl_divergence(logits, ids, targets, student_temperature)
            optimizer.zero_grad(set_to_none=True)
            (loss * _loss_scale(recipe, teacher_temperature, student_temperature)).backward()
            optimizer.step()
            total_loss += loss.detach()
        mean_loss = float(total_loss) / steps_per_epoch
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"the student's loss became {mean_loss} in epoch {epoch}; lower the learning rate ({recipe.lr:g})"
            )
        due = evaluate_every is not None and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == recipe.epochs)
        val_accuracy = accuracy(student, validation) if due and validation is not None else None
        yield EpochMetrics(epoch, mean_loss, teacher_temperature, student_temperature, lr, val_accuracy)
        if recipe.ca == "paper":
            student_temperature = grid_student_temperature(logits, ids, targets)


@torch.no_grad()
def _calibrate(
    student: Student, data: ViewDataset, recipe: Recipe, epoch: int, seed: int, teacher_temperature: float
) -> float:
    """The student temperature that fits the coming epoch's targets, on the views that it is about to train on."""
    student.eval()
    all_logits, all_ids, all_targets, seen = [], [], [], 0
    for batch in data.epoch(epoch, recipe.batch_size, seed):
        ids, targets = batch.sparse_targets(teacher_temperature)
        all_logits.append(student(batch.views))
        all_ids.append(ids)
        all_targets.append(targets)
        seen += len(ids)
        if seen >= _CALIBRATION_VIEWS:
            break
    return fit_student_temperature(torch.cat(all_logits), torch.cat(all_ids), torch.cat(all_targets))


def _loss_scale(recipe: Recipe, teacher_temperature: float, student_temperature: float) -> float:
    """What undoes the 1 / tau that softmax(s / tau) puts on the gradient: nothing for Adam, tau or T ** 2 for SGD."""
    if recipe.square_temperature:
        return teacher_temperature**2
    return student_temperature if recipe.optimizer == "sgd" else 1.0


def _lr_factor(epoch: float, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to 0; `epoch` counts in fractions."""
    if epoch < recipe.warmup_epochs:
        return (epoch + 1 / 100) / recipe.warmup_epochs
    done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return (1 + math.cos(math.pi * done)) / 2


def _optimizer(student: Student, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD without weight decay on biases and norms."""
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, foreach=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
