"""One label of each image as a whole: what soft-label sets of other projects are, and the baseline's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Codec, Dense, Logits, dense_ids
from lpqld.images import ImageSet
from lpqld.labels.compress import EncodedLabels, encode
from lpqld.labels.label_set import Labels
from lpqld.labels.provenance import UNKNOWN_TEACHER, ImagesRef, TeacherRef
from lpqld.labels.relabel import shard_size
from lpqld.labels.spec import LabelSpec
from lpqld.views import ViewRule, drawn_by

_WHOLE = ViewRule(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, mix="none")


def whole_image_labels(
    images: ImageSet,
    logits: NDArray[np.floating],
    *,
    codec: Codec | None = None,
    teacher: TeacherRef = UNKNOWN_TEACHER,
) -> EncodedLabels:
    """A label set of one view an image, the whole of it.

    Args:
        images: N images of C classes.
        logits: theirs, [N, C].
        codec: how labels are encoded; None for every logit in fp16.
        teacher: who said so.
    """
    count, num_classes = logits.shape
    views = drawn_by(_WHOLE, 0)
    rows, _ = views.of(images).rows_and_numbers(np.arange(images.num_images))
    spec = LabelSpec(
        num_images=count,
        num_classes=num_classes,
        num_views=count,
        full_views=1,
        codec=Dense(),
        views=views,
        batch_size=min(count, 100),
        shard_views=shard_size(count, min(count, 100), num_classes),
        images=ImagesRef.of(images),
        teacher=teacher,
    )
    values = logits[rows].astype(np.float32)
    return encode(Labels(spec, Logits(dense_ids(count, num_classes), values)), codec or Dense())
