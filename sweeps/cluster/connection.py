"""Ray: a local cluster by default, an existing one when asked."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import ray
import torch

from lpqld._malloc import keep_freed_memory
from lpqld.errors import ConfigError

SMALLEST_OBJECT_STORE = 512 * 1024**2
_CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def cluster(address: str | None, *, object_store_bytes: int = SMALLEST_OBJECT_STORE) -> Iterator[None]:
    """A connection to the Ray cluster at `address` (default: RAY_ADDRESS, else a local one that ends with us).

    Inside a running connection this does nothing, so that commands can be nested.

    Raises:
        ConfigError: no cluster answers there.
    """
    for name in ("ray.data", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    chosen = address or os.environ.get("RAY_ADDRESS") or "local"
    if chosen != "local":
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    _check_answers(chosen)
    options = {"object_store_memory": object_store_bytes, "include_dashboard": False} if chosen == "local" else {}
    try:
        ray.init(address=chosen, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--address {chosen}: no Ray cluster answers there ({error})") from error
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file():
        # Ray makes it readable by all; whoever reads it can run code on the cluster.
        with contextlib.suppress(OSError):
            token.chmod(0o600)
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse a HOST:PORT where nothing listens at once: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({error})") from error


def object_store_for(num_bytes: int) -> int:
    """Bytes of a local object store that holds so many of ours in memory, and what Ray itself needs."""
    return SMALLEST_OBJECT_STORE + round(1.1 * num_bytes)


def num_cpus() -> int:
    """Whole CPUs of the connected cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def num_gpus() -> int:
    """GPUs of the connected cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def use_assigned_resources(cpus: float) -> torch.device:
    """Inside a Ray worker: keep to its share of the CPUs, and memory for its next step; its device."""
    keep_freed_memory()
    torch.set_num_threads(max(1, int(cpus)))
    return torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
