"""What the classes that a label does not keep have: one or two whole numbers a label."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.entropy.adaptive_bits import LARGEST_NUMBER
from lpqld.codecs.logits import DenseOrSparse, Logits
from lpqld.errors import ConfigError

Absent = Literal["none", "minimum", "share", "tail"]
ABSENT_NUMBERS: dict[str, int] = {"none": 0, "minimum": 1, "share": 1, "tail": 2}
_HOT, _COLD = 20.0, 1.0
_INVERSE_SPAN = 1 / _COLD - 1 / _HOT
_UNIT_OF_HALF = 1 / 16


def unit_of(absent: Absent, step: float | None) -> float:
    """What the numbers count in: a minimum's own step, two steps of a mass (finer gains nothing), 1/16 beside fp16."""
    if step is None:
        return _UNIT_OF_HALF
    return step if absent == "minimum" else 2 * step


def absent_levels(
    logits: DenseOrSparse,
    ids: NDArray[np.int32],
    absent: Absent,
    temperature: float | None,
    num_classes: int | None = None,
) -> NDArray[np.float64] | None:
    """Level and slope [N, 2] of the classes other than `ids`, as `absent` describes them, before rounding.

    Args:
        logits: all that is known of the labels, [N, C] or sparse (then `num_classes` is needed).
        ids: kept classes [N, k].
        absent: how the others are described.
        temperature: of "share".
        num_classes: C.

    Returns:
        None where there are no others, or nothing is said of them.

    Raises:
        ConfigError: the labels themselves do not say what their absent classes have.
    """
    if num_classes is None:
        assert not isinstance(logits, Logits)
        num_classes = logits.shape[1]
    others = num_classes - ids.shape[1]
    if absent == "none" or others == 0:
        return None
    rest, levels = _others(logits, ids, num_classes)
    if absent == "minimum":
        lowest = rest.min(axis=1, initial=np.inf)
        level = lowest if levels is None else np.minimum(lowest, levels[:, 0])
        return np.stack([level, np.zeros_like(level)], axis=1)
    if absent == "share":
        assert temperature is not None
        level = _mean_level(rest, levels, others, temperature)
        return np.stack([level, np.zeros_like(level)], axis=1)
    cold, hot = (_mean_level(rest, levels, others, t) for t in (_COLD, _HOT))
    # level + slope / T passes through both.
    slope = (cold - hot) / _INVERSE_SPAN
    return np.stack([cold - slope / _COLD, slope], axis=1)


def absent_numbers(
    levels: NDArray[np.float64] | None, smallest: NDArray[np.float64], absent: Absent, unit: float
) -> NDArray[np.int64]:
    """Level and slope [N, 2] as whole numbers, int64 [N, 0 to 2]; see docs/label-format.md.

    Args:
        levels: from `absent_levels`.
        smallest: the smallest kept value as decoded, before its shift, [N].
        absent: how they are described.
        unit: what the numbers count in.
    """
    if levels is None:
        return np.zeros((len(smallest), ABSENT_NUMBERS[absent]), dtype=np.int64)
    cold, drop = levels[:, 0] + levels[:, 1] / _COLD, levels[:, 1] * _INVERSE_SPAN
    below = [smallest - cold, drop][: ABSENT_NUMBERS[absent]]
    # A class so far down has no probability, however far.
    return np.clip(np.rint(np.stack(below, axis=1) / unit), 0, LARGEST_NUMBER).astype(np.int64)


def absent_logits(
    numbers: NDArray[np.int64], smallest: NDArray[np.float64], absent: Absent, unit: float
) -> NDArray[np.float32] | None:
    """Level and slope [N, 2] of the absent classes, from their numbers and the smallest decoded value [N]."""
    if absent == "none":
        return None
    level = smallest - numbers[:, 0] * unit
    slope = np.zeros_like(level)
    if absent == "tail":
        slope = numbers[:, 1] * unit / _INVERSE_SPAN
        level = level - slope / _COLD
    return np.stack([level, slope], axis=1).astype(np.float32)


def _others(
    logits: DenseOrSparse, ids: NDArray[np.int32], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """Logits of known classes other than `ids` [N, M], kept ones as -inf; level and slope of unknown ones, if any."""
    if not isinstance(logits, Logits):
        rest = logits.astype(np.float64)
        np.put_along_axis(rest, ids.astype(np.int64), np.inf, axis=1)
        return rest, None
    known = logits.ids.shape[1]
    if known < num_classes and logits.absent is None:
        raise ConfigError(
            f"these labels keep {known} of {num_classes} classes and nothing of the others, so what those have cannot "
            "be recovered; use codec topk, or relabel"
        )
    full = np.full((len(ids), num_classes), np.inf)
    np.put_along_axis(full, logits.ids.astype(np.int64), logits.values.astype(np.float64), axis=1)
    np.put_along_axis(full, ids.astype(np.int64), np.inf, axis=1)
    return full, logits.absent if known < num_classes else None


def _mean_level(
    rest: NDArray[np.float64], levels: NDArray[np.float32] | None, count: int, temperature: float
) -> NDArray[np.float64]:
    """T log(mean of exp(z / T)) over the `count` other classes: the logit that, given to each, keeps their mass."""
    scaled = np.where(np.isinf(rest), -np.inf, rest / temperature)
    if levels is not None:
        unknown = (count - np.isfinite(rest).sum(axis=1)).astype(np.float64)
        level = (levels[:, 0] + levels[:, 1] / temperature) / temperature
        with np.errstate(divide="ignore"):
            scaled = np.concatenate([scaled, (level + np.log(unknown))[:, None]], axis=1)
    top = scaled.max(axis=1, keepdims=True)
    mass = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return np.asarray(temperature * (mass - np.log(count)), dtype=np.float64)
