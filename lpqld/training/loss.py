"""How far a student is from its targets: nothing here is views x classes but its own logits."""

from __future__ import annotations

from typing import Any

import torch

from lpqld.training.recipe import Recipe
from lpqld.training.targets import SoftTargets


def kl_divergence(
    student_logits: torch.Tensor, targets: SoftTargets, student_temperature: float, *, num_views: int | None = None
) -> torch.Tensor:
    """Mean over views of KL(targets || softmax(student_logits / student_temperature)), times the view's weight if any.

    Computed in float32 (float64 for such logits), in one pass: log-probabilities become the gradient where they lie.

    Args:
        student_logits: [B, C].
        targets: of B views.
        student_temperature: tau.
        num_views: what the sum over views is divided by; None for B. A part of a batch gives the batch's.
    """
    divisor = len(student_logits) if num_views is None else num_views
    loss: torch.Tensor = _KLDivergence.apply(student_logits, targets, 1 / student_temperature, divisor)
    return loss


class _KLDivergence(torch.autograd.Function):
    """Autograd would keep the log-probabilities and make two more tensors of their size going back."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: SoftTargets, inverse: float, num_views: int) -> torch.Tensor:
        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) * inverse
        log_predictions = torch.log_softmax(scaled, 1)
        del scaled
        divergence = targets.negative_entropy(logits.shape[1]) - targets.expectation(log_predictions)
        if ctx.needs_input_grad[0]:
            # softmax(s / tau) - p, over tau.
            gradient, above = log_predictions.exp_(), targets.probabilities
            if targets.rest is not None:
                gradient -= targets.rest[:, None]
                above = above - targets.rest[:, None]
            gradient.scatter_add_(1, targets.ids, -above.to(gradient.dtype)).mul_(inverse / num_views)
            if targets.weights is not None:
                gradient *= targets.weights[:, None]
            ctx.save_for_backward(gradient.to(logits.dtype))
        if targets.weights is not None:
            divergence = divergence * targets.weights
        return divergence.sum() / num_views

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].to(gradient.dtype), None, None, None


def loss_scale(recipe: Recipe, teacher_temperature: float, student_temperature: float) -> float:
    """What undoes the 1 / tau that softmax(s / tau) puts on the gradient: nothing for Adam, tau or T ** 2 for SGD."""
    if recipe.square_temperature:
        return teacher_temperature**2
    return student_temperature if recipe.optimizer == "sgd" else 1.0
