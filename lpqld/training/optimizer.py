"""What moves a student's weights: AdamW or SGD, the learning rate over time, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lpqld.models import half_cosine, parameter_groups
from lpqld.training.recipe import Recipe

_WARMUP_START = 0.01


def make_optimizer(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD without weight decay on biases and norms, one fused kernel for all weights."""
    trained = (parameter for parameter in student.parameters() if parameter.requires_grad)
    groups = parameter_groups(trained, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)


def learning_rate(epoch: float, recipe: Recipe) -> float:
    """Linear warm-up from a hundredth, then half a cosine to 0; `epoch` counts in fractions."""
    done = math.floor(epoch) if recipe.lr_per == "epoch" else epoch
    if done < recipe.warmup_epochs:
        return recipe.lr * (_WARMUP_START + (1 - _WARMUP_START) * done / recipe.warmup_epochs)
    share = (done - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.lr * half_cosine(math.pi * share)


class WeightAverage:
    """The exponential average of a student's weights and batch-norm statistics over steps.

    After s steps the decay is min(decay, (1 + s) / (10 + s)), so that short trainings forget their first weights.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_steps = 0
        self._weights = [tensor for tensor in student.state_dict().values() if tensor.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._num_steps += 1
        decay = min(self._decay, (1 + self._num_steps) / (10 + self._num_steps))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the student's weights and their average."""
        weights = [tensor.clone() for tensor in self._weights]
        torch._foreach_copy_(self._weights, self._average)
        torch._foreach_copy_(self._average, weights)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"num_steps": self._num_steps, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same student's."""
        device = self._average[0].device
        self._num_steps = state["num_steps"]
        torch._foreach_copy_(self._average, [tensor.to(device) for tensor in state["average"]])
