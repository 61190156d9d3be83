"""Training a teacher from scratch on hard labels."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.models import architectures
from lpqld.models.augment import augmented
from lpqld.models.fit_recipe import FitRecipe
from lpqld.models.normalise import mean_and_std, normalised
from lpqld.models.optimizer import half_cosine, parameter_groups
from lpqld.models.precision import layout_of, slower_in_bfloat16, uses_bfloat16
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.storage import TrainingCheckpoint, canonical_json, fingerprint

_WARMUP = 0.2  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class FitEpoch:
    """What one epoch did; `train_accuracy` is measured on the augmented batches while they train.

    Attributes:
        epoch: epochs finished, from 1.
        num_epochs: epochs in all.
        loss: mean cross-entropy, nats.
        train_accuracy: in [0, 1].
        lr: learning rate of the last step.
        seconds: this epoch's time.
    """

    epoch: int
    num_epochs: int
    loss: float
    train_accuracy: float
    lr: float
    seconds: float


def fit_teacher(
    images: ImageSet,
    recipe: FitRecipe,
    *,
    seed: int,
    device: torch.device | str | None = None,
    on_epoch: Callable[[FitEpoch], None] | None = None,
    keep_at: Collection[int] = (),
    keep: Callable[[int, nn.Module, TeacherSpec], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
) -> tuple[nn.Module, TeacherSpec]:
    """Train a network on `images` as `recipe` says.

    The same arguments give the same weights on one machine. In bfloat16 where that pays
    (`precision.uses_bfloat16`). Pixels are normalised with the mean and std of `images`.

    Args:
        images: two images or more.
        recipe: hyperparameters.
        seed: of the first weights, the order of images and their augmentation.
        device: where to train; None for the CPU.
        on_epoch: called after every epoch.
        keep_at: call `keep` after these epochs, from 1; see `epochs_to_keep`.
        keep: takes the epochs finished, the model as it is then (copy what should stay), and its spec.
        checkpoint: a file that state is kept in between epochs and that is removed in the end; where it is there, the
            training goes on from it.
        checkpoint_seconds: least time between two states.

    Returns:
        The model in evaluation mode, and the spec that makes it a `Teacher`.

    Raises:
        ConfigError: the recipe does not suit these images, or training diverged.
        DataError: there are fewer than two images, or the checkpoint is damaged or another training's.
    """
    if images.num_images < 2:
        raise DataError(f"{images.source}: a teacher needs two images or more, found {images.num_images}")
    recipe = recipe.for_images(images)
    target = torch.device(device or "cpu")
    # Hashing all images is for the checkpoint alone.
    identity = "" if checkpoint is None else _identity(images, recipe, seed)
    state = TrainingCheckpoint(checkpoint, identity, checkpoint_seconds)
    with _reproducibly(seed, target):
        trainer = TeacherTrainer(images, recipe, seed, target)
        if (content := state.read()) is not None:
            trainer.load_state_dict(state.load(content, torch.device("cpu")))
        for report in trainer.epochs():
            if on_epoch is not None:
                on_epoch(report)
            if keep is not None and report.epoch in keep_at:
                keep(report.epoch, trainer.model, trainer.spec)
            if report.epoch < recipe.epochs and state.is_due():
                state.save(trainer.state_dict())
    state.remove()
    return trainer.model, trainer.spec


class TeacherTrainer:
    """A network, its images and all that decides how its training goes on.

    Attributes:
        model: the network, in evaluation mode between two epochs.
        spec: what makes it a `Teacher`.
    """

    def __init__(self, images: ImageSet, recipe: FitRecipe, seed: int, device: torch.device) -> None:
        """The first weights are drawn from torch's default generator; see `FitRecipe.for_images` for `recipe`."""
        mean, std = mean_and_std(images)
        self.spec = TeacherSpec(
            recipe.architecture, images.num_classes, images.size, mean, std, class_names=images.class_names
        )
        self.model = architectures.build(recipe.architecture, images.num_classes)
        self._layout = layout_of(self.model)
        self._bfloat16 = uses_bfloat16("auto", slower_in_bfloat16(self.model), device)
        self.model.to(device).to(memory_format=self._layout)
        self._recipe = recipe
        self._device = device
        self._pixels = images.pixels.to(device)
        self._labels = images.labels.to(device)
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)
        self._draws = torch.Generator().manual_seed(seed % 2**63)
        self._num_steps = math.ceil(images.num_images / recipe.batch_size)  # of an epoch
        self._optimizer = torch.optim.AdamW(parameter_groups(self.model.parameters(), recipe.weight_decay), recipe.lr)
        total = recipe.epochs * self._num_steps
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: _rate_factor(step, total))
        self._num_finished = 0

    def epochs(self) -> Iterator[FitEpoch]:
        """Train one epoch after another.

        Raises:
            ConfigError: the loss is not finite.
        """
        while self._num_finished < self._recipe.epochs:
            yield self._epoch()

    def _epoch(self) -> FitEpoch:
        start = time.perf_counter()
        number = self._num_finished + 1
        num_images = len(self._labels)
        loss_sum = torch.zeros((), device=self._device)
        num_correct = torch.zeros((), device=self._device)
        self.model.train()
        for rows in torch.randperm(num_images, generator=self._draws).tensor_split(self._num_steps):
            lr = float(self._schedule.get_last_lr()[0])
            loss, correct = self._step(rows)
            loss_sum += loss * len(rows)
            num_correct += correct
        self.model.eval()
        mean_loss = float(loss_sum) / num_images
        if not math.isfinite(mean_loss):
            raise ConfigError(
                f"training {self._recipe.architecture} diverged in epoch {number} (loss {mean_loss}): lower `lr`"
            )
        self._num_finished = number
        seconds = time.perf_counter() - start
        return FitEpoch(number, self._recipe.epochs, mean_loss, float(num_correct) / num_images, lr, seconds)

    def _step(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the weights once; the mean loss of the images at `rows`, and how many of them were right."""
        rows = rows.to(self._device)
        labels = self._labels[rows]
        pixels = augmented(self._pixels[rows], bool(self._recipe.flip), self._recipe.max_shift or 0, self._draws)
        inputs = normalised(pixels.float() / 255, self._mean, self._std).contiguous(memory_format=self._layout)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self.model(inputs).float()
        loss = F.cross_entropy(logits, labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes, the state of torch's default generators with it."""
        on_cuda = self._device.type == "cuda"
        return {
            "epoch": self._num_finished,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "draws": self._draws.get_state(),
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self._device) if on_cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put everything back as it was in a training of the same recipe, images and seed."""
        self._num_finished = state["epoch"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._draws.set_state(state["draws"])
        torch.set_rng_state(state["random"])
        if state["device_random"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["device_random"], self._device)


def _identity(images: ImageSet, recipe: FitRecipe, seed: int) -> str:
    """Twelve hexadecimal digits that say which training a checkpoint is of."""
    settings = [recipe.architecture, recipe.epochs, seed, recipe.batch_size, recipe.lr, recipe.weight_decay]
    return fingerprint(canonical_json([*settings, recipe.flip, recipe.max_shift, images.fingerprint]))[:12]


@contextlib.contextmanager
def _reproducibly(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's default generators begin at `seed` and are as they were in the end; cuDNN takes deterministic kernels."""
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True),
    ):
        torch.manual_seed(seed % 2**63)
        yield


def _rate_factor(step: int, num_steps: int) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then half a cosine."""
    warmup = max(1.0, _WARMUP * num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return half_cosine(math.pi * (step - warmup) / max(1.0, num_steps - warmup))
