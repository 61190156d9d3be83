"""The training loop of students."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.models import accuracy
from lpqld.storage import TrainingCheckpoint, canonical_json, fingerprint
from lpqld.training.calibration import CALIBRATION_TYPES
from lpqld.training.compiling import Compile, compiled
from lpqld.training.dataset import ViewDataset
from lpqld.training.epoch_plan import EpochPlan
from lpqld.training.loss import kl_divergence, loss_scale
from lpqld.training.optimizer import WeightAverage, learning_rate, make_optimizer
from lpqld.training.ranks import ALONE, Ranks, without_exchange
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.training.temperature import parse_schedule


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
    trainer = Trainer(student, data, recipe, seed=seed, ranks=ranks)
    if evaluate_every is not None and validation is not None:
        trainer.evaluate_on(validation, evaluate_every)
    yield from trainer.epochs(TrainingCheckpoint(checkpoint, trainer.identity, checkpoint_seconds), compile)


class Trainer:
    """A student, its data and all that decides how its training goes on; see `train` for the arguments.

    Attributes:
        history: what the epochs so far measured.
    """

    def __init__(self, student: Student, data: ViewDataset, recipe: Recipe, *, seed: int, ranks: Ranks) -> None:
        self._student = student.to(data.device)
        self._student.check_input(data.images.size)
        self._data = data
        self._recipe = recipe
        self._seed = seed
        self._ranks = ranks
        batch_sizes = [len(positions) for positions in data.batches(0, recipe.batch_size, seed)]
        self._num_steps = len(batch_sizes)  # of an epoch
        self._num_parts = ranks.size * recipe.accumulate  # of a step
        self._check_parts(min(batch_sizes))
        self._hard_data = data.hard_labelled(recipe.num_hard_before(recipe.epochs)) if recipe.hard_every else data
        self._optimizer = make_optimizer(student, recipe)
        self._average = WeightAverage(student, recipe.ema) if recipe.ema else None
        self._teacher_temperature = parse_schedule(recipe.temperature, recipe.epochs)
        self._calibration = CALIBRATION_TYPES[recipe.ca](student, data, recipe, seed=seed, ranks=ranks)
        self._network: nn.Module = student  # compiled and joined with other ranks while it trains
        self._validation: ImageSet | None = None
        self._evaluate_every = 0
        self.history: list[EpochMetrics] = []

    def evaluate_on(self, validation: ImageSet, every: int) -> None:
        """Measure accuracy on `validation` after every so many epochs, and after the last."""
        self._validation = validation
        self._evaluate_every = every

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that say which training a checkpoint is of."""
        facts = [self._recipe.to_json(), self._seed, self._data.num_labels, self._data.images.num_images]
        return fingerprint(canonical_json(facts))[:12]

    def epochs(self, checkpoint: TrainingCheckpoint, compile: Compile) -> Iterator[EpochMetrics]:  # noqa: A002
        """The metrics of the epochs that `checkpoint` has, then of the others as they are trained."""
        self._resume(checkpoint)
        yield from self.history
        is_first = self._ranks.rank == 0
        num_steps = (self._recipe.epochs - len(self.history)) * self._num_steps
        network = compiled(self._student, compile, self._data.device, num_steps)
        with self._ranks.joined(self._student, network) as self._network:
            for epoch in range(len(self.history), self._recipe.epochs):
                try:
                    self.history.append(self._epoch(epoch))
                except DivergedError:
                    if is_first:
                        checkpoint.remove()
                    raise
                if is_first and checkpoint.is_due():
                    checkpoint.save(self.state_dict())
                yield self.history[-1]
        if is_first:
            checkpoint.remove()

    def _epoch(self, epoch: int) -> EpochMetrics:
        """Train one epoch, calibrate and evaluate; the student holds its average before and after."""
        if self._average is not None and epoch > 0:
            self._average.swap()
        plan = self._plan(epoch)
        loss, lr = self._steps(plan)
        self._calibration.after_epoch()
        if self._average is not None:
            self._average.swap()
        return EpochMetrics(epoch, loss, plan.teacher_temperature, plan.student_temperature, lr, self._evaluate(epoch))

    def _plan(self, epoch: int) -> EpochPlan:
        """What an epoch trains on, with the student's temperature calibrated for it."""
        teacher_temperature = self._teacher_temperature(epoch)
        is_hard = self._recipe.is_hard(epoch)
        num_hard = self._recipe.num_hard_before(epoch)
        self._calibration.before_epoch(epoch, None if is_hard else epoch - num_hard, teacher_temperature)
        student_temperature = self._calibration.student_temperature
        scale = loss_scale(self._recipe, teacher_temperature, student_temperature)
        if is_hard:
            scale *= self._recipe.hard_weight / teacher_temperature**2
        return EpochPlan(
            epoch=epoch,
            views=self._hard_data if is_hard else self._data,
            number=num_hard if is_hard else epoch - num_hard,
            is_hard=is_hard,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            scale=scale,
        )

    def _steps(self, plan: EpochPlan) -> tuple[float, float]:
        """All steps of an epoch; the mean loss of all ranks, and the learning rate of the last step.

        Raises:
            DivergedError: the loss is not finite.
        """
        lr = 0.0
        total_loss = torch.zeros((), device=self._data.device)
        self._student.train()
        with _random_layers(self._seed, plan.epoch, self._ranks.rank, self._data.device):
            for step, positions in enumerate(plan.views.batches(plan.number, self._recipe.batch_size, self._seed)):
                lr = learning_rate(plan.epoch + step / self._num_steps, self._recipe)
                for loss in self._step(positions, plan, lr):
                    total_loss += loss
        mean_loss = float(self._ranks.summed(total_loss)) / self._num_steps
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"the student's loss became {mean_loss} in epoch {plan.epoch}; lower the learning rate"
                f" ({self._recipe.lr:g})"
            )
        return mean_loss, lr

    def _step(self, positions: NDArray[np.int64], plan: EpochPlan, lr: float) -> list[torch.Tensor]:
        """Move the weights once, by the views at `positions`; the losses of this rank's parts of them."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        losses: list[torch.Tensor] = []
        parts = np.array_split(positions, self._num_parts)[self._ranks.rank :: self._ranks.size]
        for number, part in enumerate(parts):
            is_last = number + 1 == len(parts)
            with contextlib.nullcontext() if is_last else without_exchange(self._network):
                losses.append(self._backward(part, plan, num_views=len(positions), begins_step=number == 0))
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return losses

    def _backward(self, part: NDArray[np.int64], plan: EpochPlan, *, num_views: int, begins_step: bool) -> torch.Tensor:
        """Add the gradient of the views at `part`; their share of the mean loss of a step of `num_views`."""
        batch = plan.views[part]
        targets = batch.soft_targets(plan.teacher_temperature)
        logits = self._network(batch.views)
        loss = kl_divergence(logits, targets, plan.loss_temperature, num_views=num_views)
        # DDP takes the mean over ranks; these losses are shares of a sum.
        (loss * (plan.scale * self._ranks.size)).backward()
        if not plan.is_hard:
            self._calibration.gather(logits.detach(), targets, begins_step=begins_step)
        return loss.detach()

    def _evaluate(self, epoch: int) -> float | None:
        """Accuracy on the validation images, a fraction; None where this epoch does not evaluate."""
        if self._validation is None:
            return None
        is_due = (epoch + 1) % self._evaluate_every == 0 or epoch + 1 == self._recipe.epochs
        return accuracy(self._student, self._validation) if is_due else None

    def _check_parts(self, num_views: int) -> None:
        if num_views < self._num_parts:
            raise ConfigError(
                f"a step of {num_views} views cannot be cut into {self._num_parts} parts: lower accumulate"
                f" ({self._recipe.accumulate}) or the number of workers ({self._ranks.size}), or raise the batch size"
            )

    def _resume(self, checkpoint: TrainingCheckpoint) -> None:
        """Go on from `checkpoint`, which the first rank reads."""
        content = self._ranks.from_first(checkpoint.read() if self._ranks.rank == 0 else None)
        if content is not None:
            self.load_state_dict(checkpoint.load(content, self._data.device))

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes, after an epoch."""
        return {
            "student": self._student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            **self._calibration.state_dict(),
            "metrics": [asdict(metrics) for metrics in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same training."""
        self._student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._calibration.load_state_dict(state)
        self.history = [EpochMetrics(**metrics) for metrics in state["metrics"]]


@contextlib.contextmanager
def _random_layers(seed: int, epoch: int, rank: int, device: torch.device) -> Iterator[None]:
    """Dropout and the like draw from (seed, epoch, rank), so that a training goes on as if uninterrupted."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(fingerprint(canonical_json([seed, epoch, rank]))[:15], 16))
        yield
