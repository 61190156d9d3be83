"""Which views of every image are kept: those whose labels score best come first, and pruning keeps the first.

Example:
    >>> sure = reordered(LabelSet.open("labels"), "confidence")  # doctest: +SKIP
    >>> encode(sure, TopK(k=10), num_views=1000).write(Path("small"))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError
from lpqld.labels.fidelity import chunks, entropies, probabilities
from lpqld.labels.label_set import Labels, LabelSet

_DECIMALS = 9
_LOW = "low-"
_SCORES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.floating]]] = {
    "confidence": lambda p: p.max(axis=1),
    "entropy": entropies,
    "classes": lambda p: (p > 1 / p.shape[1]).sum(axis=1).astype(np.float64),
}
SELECTIONS = ("first", *(low + name for name in _SCORES for low in ("", _LOW)))


def scores(labels: Labels, by: str) -> NDArray[np.float64]:
    """What each label scores, from its probabilities p at T = 1: float64 [num_views], rounded to nine decimals.

    Rounded, labels tie that only differ in the order in which their classes are summed up.

    Args:
        labels: C classes.
        by: "confidence", max p; "entropy", -sum p log p; "classes", how many p are above 1 / C.
    """
    spec, score = labels.spec, _SCORES[by]
    found = np.empty(spec.num_views)
    for where in chunks(spec.num_views, spec.num_classes):
        found[where] = score(probabilities(labels.logits.take(where), 1.0, spec.num_classes))
    return found.round(_DECIMALS)


def reordered(labels: Labels | LabelSet, by: str) -> Labels:
    """The same labels, the views of every image in order of a score: the first label of an image has its best view.

    Every image keeps as many views at the same positions, so that a prefix is a smaller set as ever, of the best views.

    Args:
        labels: a label set, opened or decoded.
        by: one of `SELECTIONS`: the highest `scores` first or, with "low-", the lowest, equal ones by view number;
            "first" leaves the order as it is.

    Raises:
        ConfigError: there is no such selection.
    """
    if by not in SELECTIONS:
        raise ConfigError(f"unknown selection {by!r}; choose one of {', '.join(SELECTIONS)}")
    decoded = labels.labels if isinstance(labels, LabelSet) else labels
    if by == "first":
        return decoded
    spec, numbers = decoded.spec, decoded.view_numbers
    score = scores(decoded, by.removeprefix(_LOW))
    images = spec.image_rows
    best_first = np.lexsort((numbers, score if by.startswith(_LOW) else -score, images))
    # Image by image, both list the positions that the image has: in which order they are, and by score.
    source = np.empty_like(best_first)
    source[np.argsort(images, kind="stable")] = best_first
    logits = decoded.logits.take(source)
    views, select, shard_numbers = spec.views.reordered(source, by, numbers[source])
    return Labels(replace(spec, views=views, select=select), logits, shard_numbers)
