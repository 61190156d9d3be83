"""What a trial holds of a node: CPUs, and a share of a GPU by the memory that its student needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
import torch
from torch import nn

from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.models import build
from lpqld.training import Recipe
from sweeps.cluster.connection import num_gpus
from sweeps.config import ResourcesConfig

# More students at once take turns on a GPU's cores and gain nothing.
_MOST_GPU_SHARES = 4
# Of a GPU's memory; allocators keep more than is in use.
_USABLE = 0.85
_CONTEXT_BYTES = 10**9  # of CUDA itself and its libraries, in every process
_FLOAT_BYTES = 4
_WEIGHT_COPIES = 4  # the weights, their gradients, two moments of AdamW
_ACTIVATION_COPIES = 2  # kept for the backward step; workspace and gradients
_ASKING_SECONDS = 60


@dataclass(frozen=True)
class TrialResources:
    """CPUs and GPUs that Ray sets aside for a trial; both may be fractions."""

    cpus: float
    gpus: float

    def at_once(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many trials run at once on nodes with these resources ("CPU", "GPU").

        Raises:
            ConfigError: none; Ray would wait for ever.
        """
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        # Ray counts in ten-thousandths.
        total = sum(
            min(int(node.get(name, 0) / amount + 1e-4) for name, amount in wanted.items() if amount) for node in nodes
        )
        if total:
            return total
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        raise ConfigError(
            f"a trial needs {self.cpus:g} CPUs and {self.gpus:g} GPUs of one node, and no node of this Ray cluster has "
            f"them (at most {largest['CPU']:g} CPUs, {largest['GPU']:g} GPUs); lower resources.cpus_per_trial or "
            f"resources.gpus_per_trial, such as --set resources.cpus_per_trial={max(0.5, largest['CPU']):g}"
        )


def trial_resources(config: ResourcesConfig, recipe: Recipe, images: ImageSet) -> TrialResources:
    """What a trial gets on the connected Ray cluster: what `config` says, else one CPU and `gpu_share` of a GPU.

    Raises:
        ConfigError: no node has that much.
    """
    gpus = config.gpus_per_trial
    if gpus is None:
        gpus = gpu_share(student_bytes(recipe, images), _gpu_bytes()) if num_gpus() else 0
    wanted = TrialResources(config.cpus_per_trial, gpus)
    wanted.at_once(node_resources())
    return wanted


def node_resources() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def gpu_share(needed: int, gpu_bytes: int | None) -> float:
    """The share of a GPU that a student gets, so that all who share it fit in its memory: 1, 1/2, 1/3 or 1/4.

    Args:
        needed: bytes of one student in training.
        gpu_bytes: of the GPU; None where it does not say.
    """
    fit = _MOST_GPU_SHARES if gpu_bytes is None else int(_USABLE * gpu_bytes / needed)
    shares = min(max(1, fit), _MOST_GPU_SHARES)
    return math.floor(10_000 / shares) / 10_000  # Ray's unit; rounded up, the last one would not fit


def student_bytes(recipe: Recipe, images: ImageSet) -> int:
    """About how much GPU memory a student's training takes: weights, activations of a batch, images, CUDA itself."""
    with torch.device("meta"):
        network = build(recipe.architecture, images.num_classes)
        activations = _activations(network, images.size)
    weights = sum(parameter.numel() for parameter in network.parameters())
    floats = _WEIGHT_COPIES * weights + _ACTIVATION_COPIES * recipe.batch_size * activations
    return _CONTEXT_BYTES + images.pixels.numel() + _FLOAT_BYTES * floats


def _activations(network: nn.Module, size: int) -> int:
    """Numbers that the modules of a network on the meta device give out for one image."""
    seen = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal seen
        if isinstance(output, torch.Tensor):
            seen += output.numel()

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, 3, size, size))
    return seen


def _gpu_bytes() -> int | None:
    """Memory of a GPU of the cluster, as one of its workers sees it; None where none answers."""

    @ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0)
    def ask() -> int | None:
        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None

    answer = ask.remote()
    ready, _ = ray.wait([answer], timeout=_ASKING_SECONDS)
    if not ready:
        ray.cancel(answer, force=True)
        return None
    num_bytes: int | None = ray.get(answer)
    return num_bytes
