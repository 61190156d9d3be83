"""Labels changed on purpose, to see what in them teaches ("A Label is Worth a Thousand Images", arXiv 2406.10485).

All take and give logits of every class, float [N, C]; probabilities are their softmax.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError

Logits = NDArray[np.floating]
# So many nats below the largest logit of the others, a class has no probability that a float32 student could see.
_NOTHING = 100.0


def swapped(logits: Logits, rank: int) -> Logits:
    """The value of the `rank`-th largest entry of each label exchanged with that of its smallest.

    Args:
        logits: [N, C].
        rank: 1 (the largest) to C - 1.

    Raises:
        ConfigError: there is no such rank.
    """
    _check_rank(rank, logits.shape[1] - 1)
    return _exchanged(logits, [rank - 1], [logits.shape[1] - 1])


def swapped_top(logits: Logits, count: int) -> Logits:
    """The `count` largest entries of each label exchanged with the smallest: the first with the last, and so on.

    Args:
        logits: [N, C].
        count: 1 to C // 2.

    Raises:
        ConfigError: there are not so many.
    """
    _check_rank(count, logits.shape[1] // 2)
    return _exchanged(logits, range(count), range(logits.shape[1] - 1, logits.shape[1] - 1 - count, -1))


def _check_rank(rank: int, most: int) -> None:
    if not 1 <= rank <= most:
        raise ConfigError(f"labels can be swapped at ranks 1 to {most} here, found {rank}")


def _exchanged(logits: Logits, places: range | list[int], others: range | list[int]) -> Logits:
    """Values at some places of the descending order exchanged with those at others; ties go by class."""
    order = np.argsort(-logits, axis=1, kind="stable")
    one, other = order[:, list(places)], order[:, list(others)]
    found, rows = logits.copy(), np.arange(len(logits))[:, None]
    found[rows, one], found[rows, other] = logits[rows, other], logits[rows, one]
    return found


def softened(logits: Logits, temperature: float) -> Logits:
    """Labels whose softmax at 1 is that of `logits` at `temperature`, above 0.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ConfigError(f"a label's temperature must be above 0, found {temperature}")
    return logits / temperature


def smoothed(classes: NDArray[np.integer], num_classes: int, epsilon: float) -> NDArray[np.float32]:
    """Logits of smoothed hard labels: the class has 1 - epsilon + epsilon / C, every other epsilon / C.

    Args:
        classes: [N], from 0.
        num_classes: C.
        epsilon: in (0, 1].

    Raises:
        ConfigError: epsilon is out of range.
    """
    if not 0 < epsilon <= 1:
        raise ConfigError(f"label smoothing must be above 0, up to 1, found {epsilon}")
    found = np.full((len(classes), num_classes), np.log(epsilon / num_classes), dtype=np.float64)
    found[np.arange(len(classes)), classes] = np.log(1 - epsilon + epsilon / num_classes)
    return found.astype(np.float32)


def without_class(logits: Logits, classes: NDArray[np.integer], removed: int) -> tuple[Logits, NDArray[np.float64]]:
    """Labels that give a class nothing, but those of its own images; and what probability each is left with.

    Args:
        logits: [N, C].
        classes: of the images, [N].
        removed: the class, from 0.

    Returns:
        Logits [N, C], whose softmax is what remains, brought to 1; and the share [N] that remained before that.
    """
    others = classes != removed
    found = logits.copy()
    found[others, removed] = np.delete(logits[others], removed, axis=1).max(axis=1) - _NOTHING
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    mass = np.where(others, 1 - exponentials[:, removed] / exponentials.sum(axis=1), 1.0)
    return found, mass
