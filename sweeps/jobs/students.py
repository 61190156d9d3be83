"""`lpqld train` on Ray: students each in a task of their own, or one after another in several processes each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayActorError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lpqld.errors import ConfigError, LpqldError
from lpqld.progress import Progress
from lpqld.training import Ranks
from sweeps.cluster import as_completed, num_cpus, num_gpus, result_of, use_assigned_resources
from sweeps.jobs.student_job import StudentAccuracy, StudentJob, checkpoint_of


def train_students(
    job: StudentJob, seeds: range, folder: Path, progress: Progress, workers: int = 1
) -> list[StudentAccuracy]:
    """Train students on the connected Ray cluster.

    Arguments and results are those of `StudentJob.trained`.

    Args:
        workers: processes that train each student together, a CPU or a GPU each; 1 trains several students at once.

    Raises:
        ConfigError: the cluster is smaller than `workers`.
        LpqldError: a worker died again and again.
    """
    _check_workers(workers)
    shared = ray.put(job)
    return job.trained(
        seeds, folder, lambda checkpoints, missing: _trained(shared, missing, str(checkpoints), workers), progress
    )


def _check_workers(workers: int) -> None:
    gpus = num_gpus()
    available = gpus or num_cpus()
    if workers > available:
        raise ConfigError(
            f"--workers {workers}: this cluster has {available} {'GPUs' if gpus else 'CPUs'}; choose fewer"
        )


@ray.remote(max_retries=2)
def _train_seed(job: StudentJob, seed: int, checkpoints: str) -> StudentAccuracy:
    return job.run(seed, checkpoint_of(Path(checkpoints), seed), use_assigned_resources(cpus=1))


@ray.remote
class _Rank:
    """One of the processes that train a student together."""

    def free_address(self) -> str:
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def train(self, job: StudentJob, seed: int, checkpoints: str, address: str, ranks: Ranks) -> StudentAccuracy:
        backend = "nccl" if ray.get_gpu_ids() else "gloo"
        dist.init_process_group(backend, init_method=address, rank=ranks.rank, world_size=ranks.size)
        try:
            return job.run(seed, checkpoint_of(Path(checkpoints), seed), use_assigned_resources(cpus=1), ranks)
        finally:
            dist.destroy_process_group()


def _trained(job: Any, seeds: list[int], checkpoints: str, workers: int) -> Iterator[tuple[int, StudentAccuracy]]:
    """Each seed and its student's accuracies, as they come: students one after another where several processes train
    each, else as many at once as the cluster has room for."""
    gpus = 1 if num_gpus() else 0
    if workers > 1:
        bundle = {"CPU": 1.0, "GPU": 1.0} if gpus else {"CPU": 1.0}
        for seed in seeds:
            yield seed, _train_together(job, seed, checkpoints, workers, bundle)
        return
    remote = _train_seed.options(num_cpus=1, num_gpus=gpus)
    seed_of = {remote.remote(job, seed, checkpoints): seed for seed in seeds}
    for reference, accuracies in as_completed(seed_of):
        yield seed_of[reference], accuracies


def _train_together(
    job: Any, seed: int, checkpoints: str, workers: int, bundle: dict[str, float], attempts: int = 3
) -> StudentAccuracy:
    """Train one student in several processes, all of them started or none; again, from the checkpoint, if one dies."""
    group = placement_group([bundle] * workers)
    actor: Any = _Rank
    place: dict[str, Any] = {"num_cpus": 1, "num_gpus": bundle.get("GPU", 0)}
    place["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
    ranks = [actor.options(**place).remote() for _ in range(workers)]
    try:
        address = ray.get(ranks[0].free_address.remote())
        runs = [
            each.train.remote(job, seed, checkpoints, address, Ranks(rank, workers)) for rank, each in enumerate(ranks)
        ]
        values: list[StudentAccuracy] = result_of(runs)
        return values[0]
    except RayActorError as error:
        if attempts == 1:
            raise LpqldError(f"a worker of seed {seed} died; run again to go on from where it was ({error})") from error
    finally:
        for each in ranks:
            ray.kill(each)
        remove_placement_group(group)
    return _train_together(job, seed, checkpoints, workers, bundle, attempts - 1)
