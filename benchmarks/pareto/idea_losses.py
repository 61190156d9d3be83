"""Other losses than the divergence of `lpqld train`."""

from __future__ import annotations

import torch

from lpqld.training import SoftTargets, kl_divergence


def compensated(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """KL with the gradient's 1 / tau undone."""
    return kl_divergence(logits, targets, tau, num_views=num_views) * tau


def plain_where_hard(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """KL, at a temperature of 1 where targets are one or two classes: tau would ask for logits that much larger."""
    return kl_divergence(logits, targets, 1.0 if targets.ids.shape[1] <= 2 else tau, num_views=num_views)


def with_cross_entropy(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """KL times the temperature's square, so that its gradient does not shrink with it, and a tenth of cross-entropy."""
    best = targets.ids.gather(1, targets.probabilities.argmax(1, keepdim=True))[:, 0]
    entropy = torch.nn.functional.cross_entropy(logits.float(), best, reduction="sum") / num_views
    return kl_divergence(logits, targets, tau, num_views=num_views) * tau**2 + 0.1 * entropy


def squared_error(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """Mean squared error between log-probabilities less their means, of the kept classes."""
    wanted = targets.probabilities.clamp(min=1e-6).log()
    found = logits.float().gather(1, targets.ids) / tau
    difference = (found - found.mean(1, keepdim=True)) - (wanted - wanted.mean(1, keepdim=True))
    return difference.square().mean(1).sum() / num_views


def reversed_kl(logits: torch.Tensor, targets: SoftTargets, tau: float, *, num_views: int) -> torch.Tensor:
    """Half of KL from targets to student, half the other way round."""
    log_student = (logits.float() / tau).log_softmax(1)
    log_target = targets.dense(logits.shape[1]).clamp(min=1e-4).log()
    backwards = (log_student.exp() * (log_student - log_target)).sum() / num_views
    return 0.5 * (kl_divergence(logits, targets, tau, num_views=num_views) + backwards)
