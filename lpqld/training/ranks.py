"""One student, several processes: torch's DDP, and batch norm over the views of all of them.

Every process takes its share of each step's views. Gradients and batch-norm statistics are those of the whole step, so
the result is that of one process but for rounding; only random layers (dropout) draw otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """The processes that train one student; by default this one alone.

    Attributes:
        rank: of this process, from 0.
        size: how many there are. Above 1, torch.distributed's default group connects them.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def connected(cls) -> Ranks:
        """Those of torch.distributed's default group, which the caller started."""
        return cls(dist.get_rank(), dist.get_world_size())

    @contextlib.contextmanager
    def joined(self, student: nn.Module, network: nn.Module) -> Iterator[nn.Module]:
        """`network`, which is `student` or its compiled form, with gradients and statistics of all ranks together."""
        if self.size == 1:
            yield network
            return
        with _synchronised_batch_norm(student):
            # Weights are equal on all ranks before and after each step, and so are statistics: nothing to broadcast.
            yield DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def from_first(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Ranks()


def without_exchange(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Gradients of parts before a step's last stay with their rank until then."""
    if isinstance(network, DistributedDataParallel):
        manager: contextlib.AbstractContextManager[None] = network.no_sync()
        return manager
    return contextlib.nullcontext()


@contextlib.contextmanager
def _synchronised_batch_norm(student: nn.Module) -> Iterator[None]:
    """Batch norm over all ranks; torch's own SyncBatchNorm does not run on CPUs, and would rebuild timm's layers."""
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.forward = partial(_normalise, norm, norm.forward)  # type: ignore[method-assign, unused-ignore]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, alone: Any, x: torch.Tensor) -> torch.Tensor:
    if not norm.training:
        result: torch.Tensor = alone(x)
        return result
    dims = [dim for dim in range(x.ndim) if dim != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    with torch.autocast(x.device.type, enabled=False):
        # Sums of squares around the mean, not of values: float32 would lose small variances.
        values = x.float()
        count = all_reduce(torch.full((1,), float(values.numel() // values.shape[1]), device=x.device))
        mean = all_reduce(values.sum(dims)) / count
        centred = values - mean.reshape(shape)
        variance = all_reduce((centred**2).sum(dims)) / count
        scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        out = centred * scale.reshape(shape)
        if norm.bias is not None:
            out = out + norm.bias.reshape(shape)
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            with torch.no_grad():
                norm.num_batches_tracked.add_(1)
                momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean, momentum)
                norm.running_var.lerp_(variance * count / (count - 1), momentum)
    out = out.to(x.dtype)
    # timm's batch norms carry dropout and the activation that follows them.
    for name in ("drop", "act"):
        out = getattr(norm, name, nn.Identity())(out)
    return out
