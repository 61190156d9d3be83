"""Other labels of the same bytes than `lpqld compress` makes, and what they are made from."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from label_students import master_labels
from numpy.typing import NDArray
from real_data import DATA

from lpqld.codecs import Dense, Logits, dense_ids
from lpqld.images import ImageSet
from lpqld.labels import Labels, fill_budget
from lpqld.models import load_teacher
from lpqld.training import Recipe

_FIRST = 20  # views of an image; no budget here holds more


@dataclass(frozen=True)
class Given:
    """What every idea starts from.

    Attributes:
        images: distilled.
        labels: the base row's, decoded.
        master: every view's logits.
        recipe: the base row's.
        budget: bytes of the base row's labels on disk.
        test, val: measured at the end; `val` chooses, the test set is only told.
    """

    images: ImageSet
    labels: Labels
    master: Labels
    recipe: Recipe
    budget: int
    test: ImageSet
    val: ImageSet


def of_two_teachers(given: Given) -> Labels:
    """The mean of the logits of the teacher and a ResNet-56."""
    other = load_teacher(
        DATA / "weights" / "resnet56-4bfd9763.th",
        architecture="cifar_resnet56",
        image_class_names=given.images.class_names,
    )
    spec = given.master.spec
    more = master_labels(
        other, given.images, spec.view_rule, _FIRST, Path(tempfile.gettempdir()) / "lpqld-ideas", print
    )
    own = given.master.logits.take(slice(0, more.spec.num_views)).dense(spec.num_classes)
    mean = (own + more.logits.values) / 2
    count = more.spec.num_views
    labels = Labels(replace(spec, num_views=count, codec=Dense()), Logits(dense_ids(*mean.shape), mean))
    return fill_budget(labels, given.labels.spec.codec, given.budget).decode()


def diverse_crops(given: Given) -> Labels:
    """Of every image, the views whose crops are furthest from those before them, by corner, height and width."""
    labels, spec = given.master, given.master.spec
    crops = labels.views_of(given.images).draw(np.arange(spec.num_views)).crop
    source = np.arange(spec.num_views)
    for image in range(spec.num_images):
        places = np.flatnonzero(spec.image_rows == image)
        source[places] = places[_furthest_first(crops[places])]
    # The manifest knows its own selections alone, and reads this one by the numbers of the views all the same.
    chosen = Labels(replace(spec, select="classes"), labels.logits.take(source), labels.view_numbers[source])
    return fill_budget(chosen, given.labels.spec.codec, given.budget).decode()


def _furthest_first(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """The first point, then always the one furthest from all before it; after `_FIRST`, the others as they are."""
    order, away = [0], np.linalg.norm(points - points[0], axis=1)
    while len(order) < _FIRST:
        order.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(points - points[order[-1]], axis=1))
    return np.concatenate([order, np.setdiff1d(np.arange(len(points)), order)])


def bits_by_difficulty(given: Given) -> Labels:
    """Half of the classes, those that the teacher is less sure of, a bit more each logit; the others a bit less."""
    spec, codec = given.labels.spec, given.labels.spec.codec
    sure = given.labels.logits.dense(spec.num_classes)
    sure = np.exp(sure - sure.max(1, keepdims=True))
    sure = 1 / sure.sum(1)  # the largest probability
    classes = given.images.labels.numpy()[np.arange(spec.num_views) % spec.num_images]
    means = np.array([sure[classes == label].mean() for label in range(spec.num_classes)])
    hard = np.isin(classes, np.argsort(means)[: spec.num_classes // 2])
    step = getattr(codec, "step", None)
    assert step is not None, "the base row's labels are quantized"
    kept = given.master.logits.take(slice(0, spec.num_views))
    finer, coarser = (replace(codec, step=step * factor) for factor in (0.5, 2.0))  # type: ignore[type-var]
    values = np.where(
        hard[:, None],
        finer.roundtrip(kept, num_classes=spec.num_classes).dense(spec.num_classes),
        coarser.roundtrip(kept, num_classes=spec.num_classes).dense(spec.num_classes),
    )
    halves = [(finer, hard), (coarser, ~hard)]
    sizes = [len(codec.encode(kept.dense(spec.num_classes)[rows])) for codec, rows in halves]
    print(f"bits by difficulty: {sum(sizes)} bytes of payload, {given.budget} on disk of the base row", file=sys.stderr)
    return Labels(replace(spec, codec=Dense()), Logits(dense_ids(*values.shape), values.astype(np.float32)))
