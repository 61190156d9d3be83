"""Ray Data over shards: one row is one shard, on a pool of workers of which any may be lost.

This module and `sweeps.cluster.tries` know nothing of labels, so a simulation runs light workers through them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lpqld.errors import ConfigError, DataError, LpqldError
from sweeps.cluster.connection import num_cpus, num_gpus
from sweeps.cluster.tries import Tries

_KINDS = {kind.__name__: kind for kind in (ConfigError, DataError, LpqldError)}

Answer = dict[str, Any]


def run_shards(
    worker: type, arguments: dict[str, Any], shards: list[int], *, workers: int, resources: dict[str, float]
) -> Iterator[tuple[int, Answer]]:
    """Give each of `shards` to one of the workers, and tell of each as it is done: its number and the worker's answer.

    A worker that dies is started again, on another node where its own is gone, and does its shard once more, without
    end: `tries` counts, and who takes a shard asks it.

    Args:
        worker: a class; its instances are called with a shard's number, and answer with what JSON holds.
        arguments: of its constructor, which also gets `tries`, a handle of `sweeps.cluster.tries.Tries`.
        shards: numbers.
        workers: at work at once.
        resources: what Ray sets aside for one, such as {"num_cpus": 1}.

    Raises:
        LpqldError: the cluster failed; or what a worker raised.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    dataset = ray.data.from_items([{"shard": index} for index in shards], override_num_blocks=len(shards)).map_batches(
        _on_rows(worker),
        fn_constructor_kwargs={**arguments, "tries": _start_tries()},
        batch_size=1,
        batch_format="numpy",
        # A second shard waits at each worker: without, it idles for 0.13 s between two. Not more, since what waits at a
        # lost worker is done last, and what waits at a slow one ends late.
        compute=ray.data.ActorPoolStrategy(min_size=workers, max_size=workers, max_tasks_in_flight_per_actor=2),
        **resources,
    )
    try:
        # Without prefetching, a shard is told of when it is done, not when the next one is.
        for batch in dataset.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=0):
            answer = json.loads(batch["answer"][0])
            if failure := answer.get("failure"):
                raise _KINDS[failure["kind"]](failure["message"])
            yield int(batch["shard"][0]), answer
    except RayError as error:
        raise LpqldError(
            f"the work failed on the cluster: {error}. What is finished is kept; run the same command again"
        ) from error


def pool_for(num_shards: int, workers: int | None) -> dict[str, Any]:
    """How many workers to start for so many shards, and what Ray sets aside for each, as `run_shards` takes it.

    By default one for each GPU, or for each CPU where there is no GPU; more share them equally.
    """
    gpus = num_gpus()
    devices = gpus or num_cpus()
    size = min(workers or devices, num_shards)
    return {"workers": size, "resources": {"num_gpus" if gpus else "num_cpus": 1 / -(-size // devices)}}


def _on_rows(worker: type) -> type:
    """`worker` as Ray Data calls it."""

    class OnRows:
        def __init__(self, **arguments: Any) -> None:
            self._worker = worker(**arguments)

        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            try:
                answer = self._worker(int(batch["shard"][0]))
            except LpqldError as error:
                # A mistake that a retry cannot mend goes back as data: Ray would retry an exception.
                kind = next(name for name, kind in _KINDS.items() if isinstance(error, kind))
                answer = {"failure": {"kind": kind, "message": str(error)}}
            return {"shard": batch["shard"], "answer": np.array([json.dumps(answer)], dtype=object)}

    OnRows.__name__ = worker.__name__
    return OnRows


def _start_tries() -> Any:
    """The count of tries, on the driver's node, which lives as long as the job."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Tries).options(**options).remote()
