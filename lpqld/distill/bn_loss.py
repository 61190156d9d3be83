"""Moments of what enters a batch-norm layer, and the loss that pulls them to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld._numba import in_threads
from lpqld.distill.bn_loss_numba import add_line, add_moments, loss_and_gradient


@dataclass(frozen=True)
class BatchNormLoss:
    """How far the inputs of a layer are from where they should be.

    Attributes:
        mean, variance: of each group, float32 [G, F].
        weight: of the distance from them.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    weight: float

    def apply(self, values: torch.Tensor) -> torch.Tensor | float:
        """The distance of values; weighted, its gradient joins theirs in the backward pass.

        The distance is ||Var - variance||_2 + ||mean - mu||_2, with biased variances, summed over groups. Its gradient
        is one number times a value plus another, so that no graph of it is kept.

        Args:
            values: as `mean_and_square` takes them.
        """
        seen = values.detach()
        distance, line = (_line_on_cpu if _is_for_cpu(values) else _line)(seen, self)
        if values.requires_grad:
            values.register_hook(line)
        return distance


def mean_and_square(values: torch.Tensor, shift: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of (values - shift) and of (values - shift)^2 over the images and positions of each group, float32 [G, F].

    Many times as fast on a CPU as `torch.var_mean`, which is slow over channels-last memory.

    Args:
        values: [B, F], [B, F, L] or [B, F, H, W], B a multiple of G.
        shift: float32 [F], or [G, F]; near the mean, so that nothing cancels.
        num_groups: G.
    """
    shift, count = torch.atleast_2d(shift), values.numel() // (num_groups * values.shape[1])
    if _is_for_cpu(values):
        offsets, squares = (torch.from_numpy(sums) for sums in _sums(values, shift.numpy(), num_groups))
        return (offsets / count).float(), (squares / count).float()
    rows, repeats = _rows(values)
    offset = rows.unflatten(0, (num_groups, -1)).flatten(1, 2).float() - shift.repeat(1, repeats)[:, None]
    first = offset.sum(1)
    second = offset.mul_(offset).sum(1)  # in place: half of the time goes to memory
    mean, square = (part.unflatten(1, (repeats, -1)).sum(1) / count for part in (first, second))
    return mean, square


_Line = Callable[[torch.Tensor], torch.Tensor]


def _line(values: torch.Tensor, term: BatchNormLoss) -> tuple[torch.Tensor, _Line]:
    """The distance, and what adds slope * values + constant to a gradient."""
    offset, square = mean_and_square(values, term.mean, len(term.mean))
    excess = square - offset.square() - term.variance
    lengths = [torch.linalg.vector_norm(part, dim=1, keepdim=True) for part in (offset, excess)]
    to_mean, to_variance = (
        term.weight * part / length.clamp_min(1e-12) for part, length in zip((offset, excess), lengths, strict=True)
    )
    count = values.numel() / term.mean.numel()
    # Of ||mean - mu|| and ||Var - v||: to_mean / count + to_variance * 2 (x - mean) / count.
    slope = 2 * to_variance / count
    constant = to_mean / count - slope * (term.mean + offset)

    def add_to(gradient: torch.Tensor) -> torch.Tensor:
        (rows, repeats), (before, _) = _rows(values), _rows(gradient)
        steep, flat = (
            part.repeat(1, repeats).repeat_interleave(len(rows) // len(part), 0)[:, None] for part in (slope, constant)
        )
        after = torch.addcmul(before.float(), rows.float(), steep).add_(flat)  # rounded once
        return _unrows(after.to(gradient.dtype), gradient)

    return torch.stack(lengths).sum(), add_to


def _line_on_cpu(values: torch.Tensor, term: BatchNormLoss) -> tuple[float, _Line]:
    """The same, compiled."""
    mean, variance = term.mean.numpy(), term.variance.numpy()
    slope, constant = np.empty_like(mean), np.empty_like(mean)
    count, group_size = values.numel() / mean.size, len(values) // len(mean)
    distance: float = loss_and_gradient(
        *_sums(values, mean, len(mean)), count, mean, variance, term.weight, slope, constant
    )

    def add_to(gradient: torch.Tensor) -> torch.Tensor:
        rows, before = _rows(values)[0], _rows(gradient.to(values.dtype))[0]
        after = torch.empty_like(rows)
        incoming, at, outgoing = (_as_numpy(part) for part in (before, rows, after))

        def add(first: int, last: int) -> None:
            add_line(incoming, at, first, last, group_size, slope, constant, outgoing)

        in_threads(add, len(rows), rows.numel())
        return _unrows(after, gradient)

    return distance, add_to


def _sums(
    values: torch.Tensor, shift: NDArray[np.float32], num_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of (values - shift) and of its square over the images and positions of each group, [G, F]."""
    parts: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    rows, group_size = _as_numpy(_rows(values)[0]), len(values) // num_groups

    def add(first: int, last: int) -> None:
        sums = np.zeros((num_groups, shift.shape[1])), np.zeros((num_groups, shift.shape[1]))
        add_moments(rows, first, last, group_size, shift, *sums)
        parts[first] = sums

    in_threads(add, len(rows), rows.size)
    first, *others = (parts[first] for first in sorted(parts))  # in order, so that rounding is always the same
    for other in others:
        first = first[0] + other[0], first[1] + other[1]
    return first


def _is_for_cpu(values: torch.Tensor) -> bool:
    """Whether what is compiled for a CPU takes them."""
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.bfloat16)


def _as_numpy(rows: torch.Tensor) -> NDArray[Any]:
    """The same memory; of bfloat16, which numpy has not, the bits."""
    rows = rows.detach()
    array: NDArray[Any] = (rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows).numpy()
    return array


def _rows(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Values as [B, H, W * F], a view of channels-last ones, and W: what is added up lies in long rows."""
    if values.dim() == 2:
        return values[:, None].contiguous(), 1
    if values.dim() == 3:
        return values.transpose(1, 2).contiguous(), 1
    width, channels = values.shape[3], values.shape[1]
    return values.permute(0, 2, 3, 1).reshape(len(values), -1, width * channels).contiguous(), width


def _unrows(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `_rows`, in the shape of `like`."""
    if like.dim() == 2:
        return rows[:, 0]
    if like.dim() == 3:
        return rows.transpose(1, 2)
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
