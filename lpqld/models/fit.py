"""Training a teacher from scratch on hard labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.models import architectures
from lpqld.models.precision import layout_of, slower_in_bfloat16, uses_bfloat16
from lpqld.models.teacher_spec import TeacherSpec, Triple
from lpqld.storage import TrainingCheckpoint, canonical_json, fingerprint

_WARMUP = 0.2  # share of the steps in which the learning rate rises
_STD_FLOOR = 0.01


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
    *,
    architecture: str,
    epochs: int,
    seed: int,
    batch_size: int = 128,
    lr: float = 3e-3,
    weight_decay: float = 0.05,
    flip: bool | None = None,
    max_shift: int | None = None,
    device: torch.device | str | None = None,
    on_epoch: Callable[[FitEpoch], None] | None = None,
    keep_at: Collection[int] = (),
    keep: Callable[[int, nn.Module, TeacherSpec], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
) -> tuple[nn.Module, TeacherSpec]:
    """Train `architecture` on `images` with AdamW, its learning rate rising to `lr` and falling to 0 as a cosine.

    The same arguments give the same weights on one machine. In bfloat16 where that pays
    (`precision.uses_bfloat16`). Pixels are normalised with the mean and std of `images`.

    Args:
        images: two images or more.
        architecture: a name for `architectures.build`.
        epochs: passes over the images, 1 or more.
        seed: of the first weights, the order of images and their augmentation.
        batch_size: images a step, 2 or more; batches are even, so the last is not small.
        lr: highest learning rate.
        weight_decay: AdamW's, on matrices and kernels only.
        flip: mirror half of the images; None mirrors those of sets with colour, since digits have none.
        max_shift: each image moves by up to this many pixels each way, its edge repeated; None for 1/8 of the side.
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
        ConfigError: an argument is out of range, or training diverged.
        DataError: there are fewer than two images, or the checkpoint is damaged or another training's.
    """
    if epochs < 1 or batch_size < 2 or not lr > 0:
        raise ConfigError(
            "a teacher needs epochs of 1 or more, a batch size of 2 or more and a learning rate above 0, found"
            f" {epochs}, {batch_size} and {lr}"
        )
    if images.num_images < 2:
        raise DataError(f"{images.source}: a teacher needs two images or more, found {images.num_images}")
    target = torch.device(device or "cpu")
    pixels, labels = images.pixels.to(target), images.labels.to(target)
    flip = bool((images.pixels != images.pixels[:, :1]).any()) if flip is None else flip
    max_shift = images.size // 8 if max_shift is None else max_shift
    if not 0 <= max_shift < images.size:
        raise ConfigError(f"max_shift must be in [0, {images.size}), found {max_shift}")
    mean, std = _statistics(images)
    spec = TeacherSpec(architecture, images.num_classes, images.size, mean, std, class_names=images.class_names)
    center = torch.tensor(mean, device=target).view(1, 3, 1, 1)
    spread = torch.tensor(std, device=target).view(1, 3, 1, 1)
    draws = torch.Generator().manual_seed(seed % 2**63)
    cuda_devices = [target] if target.type == "cuda" else []
    identity = ""
    if checkpoint is not None:  # hashing all images is for this alone
        facts = [architecture, epochs, seed, batch_size, lr, weight_decay, flip, max_shift, images.fingerprint]
        identity = fingerprint(canonical_json(facts))[:12]
    state = TrainingCheckpoint(checkpoint, identity, checkpoint_seconds)
    with (
        torch.random.fork_rng(devices=cuda_devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True),
    ):
        torch.manual_seed(seed % 2**63)
        model = architectures.build(architecture, images.num_classes)
        layout, bfloat16 = layout_of(model), uses_bfloat16("auto", slower_in_bfloat16(model), target)
        model.to(target).to(memory_format=layout)
        optimizer = _optimizer(model, lr, weight_decay)
        num_batches = math.ceil(images.num_images / batch_size)
        total = epochs * num_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, total))
        finished = 0
        if (content := state.read()) is not None:
            finished = _restore(state.load(content, torch.device("cpu")), model, optimizer, schedule, draws, target)
        for epoch in range(finished + 1, epochs + 1):
            start = time.perf_counter()
            model.train()
            loss_sum, correct = torch.zeros((), device=target), torch.zeros((), device=target)
            for rows in torch.randperm(images.num_images, generator=draws).tensor_split(num_batches):
                batch = _augment(pixels[rows.to(target)], flip, max_shift, draws)
                inputs = ((batch.float() / 255 - center) / spread).contiguous(memory_format=layout)
                with torch.autocast(target.type, torch.bfloat16, enabled=bfloat16):
                    logits = model(inputs).float()
                loss = F.cross_entropy(logits, labels[rows.to(target)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                last_lr = float(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
                loss_sum += loss.detach() * len(rows)
                correct += (logits.detach().argmax(1) == labels[rows.to(target)]).sum()
            mean_loss = float(loss_sum) / images.num_images
            if not math.isfinite(mean_loss):
                raise ConfigError(f"training {architecture} diverged in epoch {epoch} (loss {mean_loss}): lower `lr`")
            model.eval()
            if on_epoch is not None:
                seconds = time.perf_counter() - start
                share = float(correct) / images.num_images
                on_epoch(FitEpoch(epoch, epochs, mean_loss, share, last_lr, seconds))
            if keep is not None and epoch in keep_at:
                keep(epoch, model, spec)
            if epoch < epochs and state.is_due():
                state.save(_state(epoch, model, optimizer, schedule, draws, target))
        model.eval()
    state.remove()
    return model, spec


def epochs_to_keep(text: str, epochs: int) -> tuple[int, ...]:
    """Epochs from 1 to `epochs`, ascending: a list such as "1,5,20", "log:8" for about 8, evenly in log time, or
    "every:5"; with these two the last is always kept.

    Raises:
        ConfigError: `text` is neither, or names an epoch that is not there.
    """
    kind, _, rest = text.rpartition(":")
    try:
        numbers = [int(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if kind == "log" and len(numbers) == 1 and numbers[0] >= 1:
        return tuple(sorted({round(float(epoch)) for epoch in np.geomspace(1, epochs, numbers[0])} | {epochs}))
    if kind == "every" and len(numbers) == 1 and 1 <= numbers[0] <= epochs:
        return tuple(sorted({*range(numbers[0], epochs, numbers[0]), epochs}))
    if kind or not numbers or not all(1 <= number <= epochs for number in numbers):
        raise ConfigError(
            f"epochs to keep, {text!r}: expected a list of epochs from 1 to {epochs}, such as 1,{epochs}, or log:8,"
            f" or every:N with N of at most {epochs}"
        )
    return tuple(sorted(set(numbers)))


def _state(
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    draws: torch.Generator,
    device: torch.device,
) -> dict[str, Any]:
    """All that decides how a training goes on."""
    return {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "draws": draws.get_state(),
        "random": torch.get_rng_state(),
        "device_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    draws: torch.Generator,
    device: torch.device,
) -> int:
    """Put everything back as it was; the epochs finished then."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    draws.set_state(state["draws"])
    torch.set_rng_state(state["random"])
    if state["device_random"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["device_random"], device)
    epoch: int = state["epoch"]
    return epoch


def _statistics(images: ImageSet) -> tuple[Triple, Triple]:
    """Mean and deviation of each channel, to four decimals, for pixels in [0, 1]."""
    counts = [torch.bincount(images.pixels[:, channel].flatten(), minlength=256).double() for channel in range(3)]
    levels = torch.arange(256, dtype=torch.float64) / 255
    means = [float((count * levels).sum() / count.sum()) for count in counts]
    deviations = [
        float(((count * (levels - mean) ** 2).sum() / count.sum()).sqrt())
        for count, mean in zip(counts, means, strict=True)
    ]
    red, green, blue = (round(mean, 4) for mean in means)
    red_std, green_std, blue_std = (round(max(deviation, _STD_FLOOR), 4) for deviation in deviations)
    return (red, green, blue), (red_std, green_std, blue_std)


def _optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that leaves biases and norms undecayed."""
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in model.parameters() if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in model.parameters() if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr)


def _lr_factor(step: int, num_steps: int) -> float:
    warmup = max(1.0, _WARMUP * num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, num_steps - warmup)))


def _augment(pixels: torch.Tensor, flip: bool, max_shift: int, draws: torch.Generator) -> torch.Tensor:
    """Shift and perhaps mirror each image of uint8 [B, 3, S, S]; draws come from the CPU on any device."""
    count, _, size, _ = pixels.shape
    if max_shift:
        top, left = torch.randint(0, 2 * max_shift + 1, (2, count), generator=draws).to(pixels.device)
        steps = torch.arange(size, device=pixels.device)
        rows = (top[:, None] - max_shift + steps).clamp(0, size - 1)
        columns = (left[:, None] - max_shift + steps).clamp(0, size - 1)
        index = torch.arange(count, device=pixels.device)[:, None, None]
        pixels = pixels.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        mirrored = (torch.rand(count, generator=draws) < 0.5).to(pixels.device)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    return pixels
