"""The training loop, read from top to bottom."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.models import accuracy
from lpqld.storage import TrainingCheckpoint, canonical_json, fingerprint
from lpqld.training.calibration import CalibrationPlan, fit_on_views
from lpqld.training.dataset import ViewDataset
from lpqld.training.loss import kl_divergence, loss_scale
from lpqld.training.optimizer import WeightAverage, learning_rate, make_optimizer
from lpqld.training.ranks import ALONE, Ranks, without_exchange
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.training.temperature import grid_losses, least_of_grid, parse_schedule

Compile = Literal["auto", "on", "off"]
# From here on "auto" compiles, on CUDA: the minute that it takes is earned back.
_STEPS_WORTH_COMPILING = 5000


class DivergedError(DataError):
    """A student's loss is no longer finite: its learning rate is too high, or its labels are wrong."""


@dataclass(frozen=True)
class EpochMetrics:
    """What an epoch of training, counted from 0, measured; `val_accuracy` (a fraction) only in epochs that evaluate."""

    epoch: int
    loss: float
    teacher_temperature: float
    student_temperature: float
    lr: float
    val_accuracy: float | None = None


def train(
    student: Student,
    data: ViewDataset,
    recipe: Recipe,
    *,
    seed: int,
    validation: ImageSet | None = None,
    evaluate_every: int | None = None,
    compile: Compile = "auto",  # noqa: A002
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    ranks: Ranks = ALONE,
) -> Iterator[EpochMetrics]:
    """Train `student` in place on the device of `data`, yielding metrics after every epoch.

    While a caller has the metrics, and in the end, the student holds the weights that count: the average with
    `recipe.ema`.

    Args:
        student: the network, see `Student`.
        data: views and labels.
        recipe: hyperparameters.
        seed: order of the batches, and what random layers draw.
        validation: evaluated every `evaluate_every` epochs, and after the last where that is given.
        evaluate_every: in epochs; None never evaluates.
        compile: `torch.compile`: "on", "off", or "auto", for long trainings on CUDA.
        checkpoint: a file that state is kept in between epochs and that is removed in the end. Where it is there, the
            training goes on from it, first yielding the metrics of the epochs before.
        checkpoint_seconds: least time between two states.
        ranks: the processes that train this student together, each with its share of every step's views; all call
            `train` with equal arguments. The first writes the checkpoint.

    Raises:
        ConfigError: steps have fewer views than parts, the network cannot take such images, or there is no compiler.
        DataError: the checkpoint is damaged or another training's.
        DivergedError: the loss is not finite.
    """
    device, num_parts = data.device, ranks.size * recipe.accumulate
    student.to(device)
    student.check_input(data.images.size)
    batch_sizes = [len(positions) for positions in data.batches(0, recipe.batch_size, seed)]
    if min(batch_sizes) < num_parts:
        raise ConfigError(
            f"a step of {min(batch_sizes)} views cannot be cut into {num_parts} parts: lower accumulate"
            f" ({recipe.accumulate}) or the number of workers ({ranks.size}), or raise the batch size"
        )
    hard_data = data.hard_labelled(recipe.num_hard_before(recipe.epochs)) if recipe.hard_every else data
    optimizer = make_optimizer(student, recipe)
    average = WeightAverage(student, recipe.ema) if recipe.ema else None
    teacher_schedule = parse_schedule(recipe.temperature, recipe.epochs)
    calibration = CalibrationPlan.for_images(data.images.num_images)
    # The paper starts calibration after the first epoch: tau = 1 in it.
    student_temperature, calibrated, done = 1.0, 0, list[EpochMetrics]()

    identity = fingerprint(canonical_json([recipe.to_json(), seed, data.num_labels, data.images.num_images]))[:12]
    kept = TrainingCheckpoint(checkpoint, identity, checkpoint_seconds)
    content = ranks.from_first(kept.read() if ranks.rank == 0 else None)
    if content is not None:
        state = kept.load(content, device)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
        student_temperature, calibrated = state["student_temperature"], state["calibrated"]
        done = [EpochMetrics(**metrics) for metrics in state["metrics"]]
        yield from done

    network = _compiled(student, compile, device, (recipe.epochs - len(done)) * len(batch_sizes))
    with ranks.joined(student, network) as network:
        for epoch in range(len(done), recipe.epochs):
            if average is not None and epoch > 0:
                average.swap()
            teacher_temperature, is_hard = teacher_schedule(epoch), recipe.is_hard(epoch)
            num_hard = recipe.num_hard_before(epoch)
            views, number = (hard_data, num_hard) if is_hard else (data, epoch - num_hard)  # of its kind, none skipped
            if recipe.ca == "off":
                student_temperature = teacher_temperature
            elif recipe.ca == "fit" and not is_hard and calibration.is_due(epoch, calibrated):
                fitted = fit_on_views(student, data, recipe, number, seed, teacher_temperature)
                student_temperature, calibrated = ranks.from_first(fitted), epoch
            student.train()
            tau = 1.0 if is_hard else student_temperature
            scale = loss_scale(recipe, teacher_temperature, student_temperature)
            if is_hard:
                scale *= recipe.hard_weight / teacher_temperature**2
            total_loss, lr = torch.zeros((), device=device), 0.0
            with _random_layers(seed, epoch, ranks.rank, device):
                for step, positions in enumerate(views.batches(number, recipe.batch_size, seed)):
                    lr = learning_rate(epoch + step / len(batch_sizes), recipe)
                    for group in optimizer.param_groups:
                        group["lr"] = lr
                    optimizer.zero_grad(set_to_none=True)
                    last_parts = []
                    parts = np.array_split(positions, num_parts)[ranks.rank :: ranks.size]
                    for count, part in enumerate(parts, 1):
                        batch = views[part]
                        targets = batch.soft_targets(teacher_temperature)
                        with contextlib.nullcontext() if count == len(parts) else without_exchange(network):
                            logits = network(batch.views)
                            loss = kl_divergence(logits, targets, tau, num_views=len(positions))
                            # DDP takes the mean over ranks; these losses are shares of a sum.
                            (loss * (scale * ranks.size)).backward()
                        total_loss += loss.detach()
                        if recipe.ca == "paper" and not is_hard:
                            last_parts.append((logits.detach(), targets))
                    optimizer.step()
                    if average is not None:
                        average.update()
            mean_loss = float(ranks.summed(total_loss)) / len(batch_sizes)
            if not math.isfinite(mean_loss):
                if ranks.rank == 0:
                    kept.remove()
                raise DivergedError(
                    f"the student's loss became {mean_loss} in epoch {epoch}; lower the learning rate ({recipe.lr:g})"
                )
            used_temperature = student_temperature
            if recipe.ca == "paper" and not is_hard:
                losses = torch.stack([grid_losses(*part) for part in last_parts]).sum(0)
                student_temperature = least_of_grid(ranks.summed(losses))
            if average is not None:
                average.swap()
            due = evaluate_every is not None and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == recipe.epochs)
            val_accuracy = accuracy(student, validation) if due and validation is not None else None
            done.append(EpochMetrics(epoch, mean_loss, teacher_temperature, used_temperature, lr, val_accuracy))
            if ranks.rank == 0 and kept.is_due():
                kept.save(
                    {
                        "student": student.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": None if average is None else average.state_dict(),
                        "student_temperature": student_temperature,
                        "calibrated": calibrated,
                        "metrics": [asdict(metrics) for metrics in done],
                    }
                )
            yield done[-1]
    if ranks.rank == 0:
        kept.remove()


def _compiled(student: Student, choice: Compile, device: torch.device, num_steps: int) -> nn.Module:
    """The student, compiled if that is asked for or pays.

    On a CPU it gained 8 % and took 19 s, and results would depend on the steps to come: there only where asked for.
    """
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
    if choice == "on" and not has_compiler:
        raise ConfigError("torch.compile needs a C++ compiler, and none is on the path: install one, or do not compile")
    pays = device.type == "cuda" and num_steps >= _STEPS_WORTH_COMPILING and has_compiler
    if choice == "on" or (choice == "auto" and pays):
        # A step has one of two numbers of views: two programs, rather than one for any number.
        return torch.compile(student, dynamic=False)  # type: ignore[return-value]
    return student


@contextlib.contextmanager
def _random_layers(seed: int, epoch: int, rank: int, device: torch.device) -> Iterator[None]:
    """Dropout and the like draw from (seed, epoch, rank), so that a training goes on as if uninterrupted."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(fingerprint(canonical_json([seed, epoch, rank]))[:15], 16))
        yield
