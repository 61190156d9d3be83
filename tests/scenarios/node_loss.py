"""A cluster of several nodes on this machine, and a job during which one of them is lost.

Run as `python -m tests.scenarios.node_loss`: a program of its own, since tests in one process share another cluster.
Prints one JSON document.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import ray
import torch
from ray.cluster_utils import Cluster

from lpqld.images.image_set import ImageSet
from lpqld.labels.relabel import specify
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.drawn import ViewRule

_STORE = 100 * 1024**2


def start(**worker: Any) -> tuple[Cluster, list[Any]]:
    """A head that does no work, and two nodes that do."""
    # A dead node is missed within five seconds; a busy one has longer. (Ray's own spelling.)
    os.environ["RAY_health_check_period_ms"] = "1000"  # noqa: SIM112
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(object_store_memory=_STORE, **worker) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    return cluster, nodes


def lose(cluster: Cluster, node: Any) -> None:
    """A node and all its processes are gone from one moment to the next."""
    cluster.remove_node(node, allow_graceful=False)


def lose_in_relabel(traps: str, folder: str) -> dict[str, Any]:
    """A relabel job; once a shard is done, a node is lost. The teacher and the images are those of the test."""
    from sweeps.jobs.relabel_shards import relabel
    from tests.heard import Heard
    from tests.scenarios.faults import Trapped

    cluster, nodes = start(num_cpus=1, num_gpus=1)
    torch.manual_seed(0)
    images = ImageSet.open("digits:train").sample_per_class(2, seed=0)
    teacher = Teacher(Trapped(build("convnet", 10), Path(traps)), TeacherSpec("convnet", 10, 8))
    rule = ViewRule(crop_scale=(0.6, 1.0), flip=False)
    spec = specify(
        teacher, images, rule, views_per_image=30, seed=0, batch_size=50, shard_views=100, device=torch.device("cpu")
    )
    before = ray.cluster_resources()["GPU"]
    progress = Heard(lambda phase, done, total: lose(cluster, nodes[1]) if done == 2 else None)
    relabel(teacher, images, spec, Path(folder), progress=progress)
    return {"gpus": before, "gpus_after": ray.cluster_resources()["GPU"]}


def lose_in_sweep(root: str, _: str) -> dict[str, Any]:
    """A small sweep of the digits; once a few trials have ended, a node is lost."""
    import mlflow

    from sweeps.config.load import load_config
    from sweeps.sweep import run_sweep
    from sweeps.tracking.experiment import tracking_uri
    from tests.heard import Heard

    cluster, nodes = start(num_cpus=2)
    config = load_config(
        "digits",
        {
            "search.budgets": ["12KB", "3KB"],
            "search.trials": 6,
            "student.epochs": 60,
            "confirm.seeds": 2,
            "name": "lost",
        },
    )
    trials = Path(root) / "lost" / "trials"
    kept: dict[str, int] = {}

    def lose_a_node(phase: str, done: int, total: int) -> None:
        if phase != "search" or done < 3 or kept:
            return
        # A trial that is on its way has a result too, of its last rung.
        finished = [path for path in trials.glob("*.json") if json.loads(path.read_text())["finished"]]
        kept.update({path.name: path.stat().st_mtime_ns for path in finished})
        if kept:
            threading.Thread(target=lose, args=(cluster, nodes[1])).start()

    result = run_sweep(config, Path(root), progress=Heard(lose_a_node))
    after = {path.name: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    mlflow.set_tracking_uri(tracking_uri(Path(root)))
    experiment = mlflow.get_experiment_by_name("lost")
    runs = mlflow.search_runs([experiment.experiment_id])
    children = runs[runs["tags.mlflow.parentRunId"].notna()]
    confirmed = [*result.points, *result.baselines]
    return {
        "finished_before": sorted(kept),
        "changed": [name for name in kept if after[name] != kept[name]],
        "nodes_after": sum(node["Alive"] for node in ray.nodes()) - 1,
        "results": len(after),
        "runs": len(children),
        "statuses": sorted(set(runs["status"])),
        "budgets": sorted(point.budget for point in result.points),
        "confirmed": len(confirmed),
        "seeds": [point.accuracy.n for point in confirmed],
    }


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    answer = {"relabel": lose_in_relabel, "sweep": lose_in_sweep}[kind](*arguments)
    print(json.dumps(answer), flush=True)
    ray.shutdown()
