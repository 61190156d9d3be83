"""Accuracies in percent, as tables have them."""

from __future__ import annotations

from sweeps.report import Accuracy


def spread(accuracy: Accuracy) -> str:
    """Mean and deviation in percent."""
    return f"{100 * accuracy.mean:.1f} ± {100 * accuracy.std:.1f}"


def signed(difference: Accuracy) -> str:
    """Mean and deviation in points."""
    return f"{100 * difference.mean:+.1f} ± {100 * difference.std:.1f}"
