"""Versions and hardware, for reports."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

_PACKAGES = ("lpqld", "torch", "timm", "ray", "mlflow", "optuna", "pyarrow", "numpy")


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that matter, the kind of machine, the GPU's name or "none"."""
    versions = {package: metadata.version(package) for package in _PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {**versions, "python": platform.python_version(), "machine": platform.machine(), "gpu": gpu}
