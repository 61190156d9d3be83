"""How close one label set is to another, to a teacher, and how sure its labels are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Logits
from lpqld.counter_random import Stream, permutation
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.labels.label_set import Labels, LabelSet
from lpqld.labels.spec import LabelSpec
from lpqld.models import Teacher
from lpqld.views import bank_of

TEMPERATURES = (20.0, 7.0, 2.0, 1.0)
_CHUNK_VALUES = 2**22


def chunks(num_views: int, num_classes: int) -> Iterator[slice]:
    """Slices of views of which all classes take about 32 MiB in float64."""
    size = max(1, _CHUNK_VALUES // num_classes)
    return (slice(start, start + size) for start in range(0, num_views, size))


def probabilities(logits: Logits, temperature: float, num_classes: int) -> NDArray[np.float64]:
    """The target softmax(logits / temperature) over all classes; absent ones have what their label says: [N, C]."""
    scaled = logits.dense(num_classes, temperature).astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def entropies(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of each row of probabilities [N, C], in nats: [N]."""
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=1))


def entropy(labels: Labels | LabelSet, temperature: float = 1.0) -> float:
    """Mean entropy of the labels at `temperature`, in nats; of a label set on disk one shard at a time."""
    num_classes, total = labels.spec.num_classes, 0.0
    shards = (shard.logits for shard in labels.shards()) if isinstance(labels, LabelSet) else iter([labels.logits])
    for logits in shards:
        for chunk in chunks(len(logits.ids), num_classes):
            total += float(entropies(probabilities(logits.take(chunk), temperature, num_classes)).sum())
    return total / labels.spec.num_views


def total_variation(labels: Labels, reference: Labels) -> dict[float, float]:
    """Mean total-variation distance, in [0, 1], between two label sets' targets, by temperature.

    Compared are the views that both hold: the first ones of each, or those that were selected for both.

    Raises:
        DataError: the sets are of other images or other views, or share none.
    """
    ours, theirs = labels.spec, reference.spec
    if _source_of(ours) != _source_of(theirs):
        raise DataError(
            f"these label sets hold other views and cannot be compared: images {ours.images.fingerprint[:16]} and "
            f"{theirs.images.fingerprint[:16]}, seeds {ours.seed} and {theirs.seed}"
        )
    views, first, second = np.intersect1d(labels.view_keys, reference.view_keys, return_indices=True)
    if not len(views):
        raise DataError(
            f"these label sets share no view and cannot be compared: views were selected by {ours.select or 'number'} "
            f"and {theirs.select or 'number'}"
        )
    distances = dict.fromkeys(TEMPERATURES, 0.0)
    for chunk in chunks(len(views), ours.num_classes):
        for temperature in TEMPERATURES:
            p = probabilities(labels.logits.take(first[chunk]), temperature, ours.num_classes)
            q = probabilities(reference.logits.take(second[chunk]), temperature, ours.num_classes)
            distances[temperature] += float(np.abs(p - q).sum()) / 2
    return {temperature: distance / len(views) for temperature, distance in distances.items()}


def _source_of(spec: LabelSpec) -> tuple[object, ...]:
    """What equal view numbers are of equal views of."""
    return spec.images.fingerprint, spec.images.ids, *spec.views.identity


@torch.inference_mode()
def largest_difference(
    labels: Labels, images: ImageSet, teacher: Teacher, *, num_views: int, seed: int, device: torch.device
) -> float:
    """The largest difference, in steps, between stored labels and those that `teacher` gives for a sample of views.

    A constant shift of a label does not count (softmax does not see it); by how much a class that is left out exceeds
    one that is kept does. Labels without a step are compared in steps of 1/64, what fp16 resolves at a logit of 20;
    low-rank ones after projection.

    Raises:
        ConfigError: hard labels are not the teacher's.
        DataError: the images or the teacher are not those of the labels.
    """
    spec = labels.spec
    if not spec.codec.holds_logits:
        raise ConfigError("hard labels are the images' classes, not the teacher's: there is nothing to recompute")
    if teacher.num_classes != spec.num_classes:
        raise DataError(f"the teacher has {teacher.num_classes} classes, the labels {spec.num_classes}")
    views = labels.views_of(images)
    sample = np.sort(permutation(seed, Stream.FIDELITY_SAMPLE, 0, spec.num_views)[:num_views])
    bank, teacher = bank_of(views, device), teacher.to(device).eval()
    step, largest = spec.codec.difference_unit, 0.0
    for start in range(0, len(sample), spec.batch_size):
        positions = sample[start : start + spec.batch_size]
        logits = spec.codec.comparable(teacher(bank.render(views.draw(positions))).float().cpu().numpy())
        stored = labels.logits.take(positions)
        ids = stored.ids.astype(np.int64)
        kept = np.take_along_axis(logits, ids, axis=1)
        difference = kept - stored.values
        shift = (difference.max(axis=1, keepdims=True) + difference.min(axis=1, keepdims=True)) / 2
        # Labels of few classes say most by which ones they keep: none that they leave out may be larger.
        np.put_along_axis(logits, ids, -np.inf, axis=1)
        excess = logits.max(axis=1) - kept.min(axis=1)
        largest = max(largest, float(np.abs(difference - shift).max()) / step, float(excess.max()) / step)
    return largest
