"""What the trainings of teachers and students share: parameter groups, and the fall of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: matrices and kernels decay, biases and the parameters of norms do not.

    Args:
        parameters: of the network, in its order.
        weight_decay: of those that have two dimensions or more.
    """
    ordered = list(parameters)
    decaying = [parameter for parameter in ordered if parameter.ndim > 1]
    constant = [parameter for parameter in ordered if parameter.ndim <= 1]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": constant, "weight_decay": 0.0}]


def half_cosine(angle: float) -> float:
    """(1 + cos(angle)) / 2, which falls from 1 at an angle of 0 to 0 at pi.

    Example:
        >>> half_cosine(0.0), half_cosine(math.pi)
        (1.0, 0.0)
    """
    return (1 + math.cos(angle)) / 2
