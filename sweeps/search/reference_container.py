"""Bytes of the LPQLD reference's own files, which its settings are counted with in every report."""

from __future__ import annotations

from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError
from lpqld.labels import LabelSpec

# What the reference stores beside ids and values: view parameters and its index a view, a zip's overhead a batch.
# Fitted to its files (docs/method.md): 75.6 bytes a view at batch 128 and k = 10, 244 at batch 100 and k = 50.
_REFERENCE_VIEW_BYTES, _REFERENCE_INDEX_BYTES, _REFERENCE_BATCH_BYTES = 10, 5, 3300


def reference_bytes(num_views: int, k: int, batch_size: int) -> int:
    """Bytes that the LPQLD reference's files take for top-k labels: 4k + 15 a view and a zip's overhead a batch."""
    batches = -(-num_views // batch_size)
    return num_views * (4 * k + _REFERENCE_VIEW_BYTES + _REFERENCE_INDEX_BYTES) + batches * _REFERENCE_BATCH_BYTES


def reference_views(budget: int, k: int, spec: LabelSpec) -> int:
    """The most views that fit a budget in the reference's files.

    Raises:
        ConfigError: less than one label per image.
    """
    low, high = spec.num_images, spec.num_views
    smallest = reference_bytes(low, k, spec.batch_size)
    if smallest > budget:
        raise ConfigError(
            f"the reference's files need {smallest} bytes for one label per image at k={k}, not {format_bytes(budget)}"
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if reference_bytes(middle, k, spec.batch_size) <= budget else (low, middle - 1)
    return low
