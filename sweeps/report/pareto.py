"""Which choices no other choice beats: fewer bytes is better, and more accuracy is better."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def front(costs: npt.ArrayLike, values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the points that no other point beats.

    A point beats another when it costs no more, is worth no less, and is strictly better in one of the two; of equal
    points both stay. A point with a NaN (a student that diverged) is never on the front and beats nothing.

    Args:
        costs: N sizes in bytes, to be small.
        values: N accuracies, to be large.

    Returns:
        N booleans, in the order given.

    Example:
        >>> front([10, 20, 30], [0.5, 0.4, 0.6]).tolist()
        [True, False, True]
    """
    costs_N, values_N = _points(costs, values)
    on_front_N = np.zeros(costs_N.shape, dtype=np.bool_)
    usable = np.flatnonzero(~(np.isnan(costs_N) | np.isnan(values_N)))
    order = usable[np.lexsort((-values_N[usable], costs_N[usable]))]
    if not order.size:
        return on_front_N
    # Sorted by cost, the dearest value first among equals: a point stays when it equals the first of its own cost and
    # that one exceeds everything cheaper.
    _, start, group = np.unique(costs_N[order], return_index=True, return_inverse=True)
    best_of_group = values_N[order][start]
    best_cheaper = np.maximum.accumulate(best_of_group)[:-1]
    exceeds = np.concatenate(([True], best_of_group[1:] > best_cheaper))
    on_front_N[order] = exceeds[group] & (values_N[order] == best_of_group[group])
    return on_front_N


def hypervolume(costs: npt.ArrayLike, values: npt.ArrayLike, reference_cost: float, reference_value: float) -> float:
    """How much of the plane the points beat, down to a reference point that is bad in both: one number for a front.

    The cost axis is the decimal logarithm of bytes, so the area reads as *value x decades of size*: an accuracy that is
    0.1 above `reference_value` from a tenth of `reference_cost` onwards adds 0.1, whatever the unit of bytes.
    Points that cost `reference_cost` or more, or are worth `reference_value` or less, add nothing; NaN neither.

    Args:
        costs: N sizes in bytes, above zero.
        values: N accuracies.
        reference_cost: the largest size that counts, above zero.
        reference_value: the accuracy above which points count, such as that of a guess.

    Returns:
        The area, zero or above.

    Example:
        >>> hypervolume([10, 100], [0.5, 0.7], reference_cost=1000, reference_value=0.1)
        1.0
    """
    costs_N, values_N = _points(costs, values)
    if not reference_cost > 0 or bool((costs_N <= 0).any()):
        raise ValueError("costs and reference_cost must be above zero: the cost axis is logarithmic")
    counts = (costs_N < reference_cost) & (values_N > reference_value)
    if not counts.any():
        return 0.0
    order = np.argsort(costs_N[counts], kind="stable")
    log_costs = np.append(np.log10(costs_N[counts][order]), np.log10(reference_cost))
    heights = np.maximum.accumulate(values_N[counts][order]) - reference_value
    return float(np.sum(np.diff(log_costs) * heights))


def _points(costs: npt.ArrayLike, values: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    costs_N, values_N = np.asarray(costs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if costs_N.ndim != 1 or costs_N.shape != values_N.shape:
        raise ValueError(f"expected one cost for each value, got shapes {costs_N.shape} and {values_N.shape}")
    return costs_N, values_N
