"""Ray: the connection, resources, retries, and a pool of workers that make files."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.cluster.connection import (
        cluster,
        num_cpus,
        num_gpus,
        object_store_for,
        use_assigned_resources,
    )
    from sweeps.cluster.file_jobs import NumberedFiles, make_files
    from sweeps.cluster.folder_claim import claim
    from sweeps.cluster.resources import TrialResources, node_resources, trial_resources
    from sweeps.cluster.retries import write_retried
    from sweeps.cluster.shard_pool import Answer, run_shards
    from sweeps.cluster.task_results import as_completed, result_of

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
