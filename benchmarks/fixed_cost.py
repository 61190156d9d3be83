"""What a label set takes on disk besides its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Logits, TopK, dense_ids
from lpqld.images import ImageSet
from lpqld.labels import HEADER, Labels, encode, specify
from lpqld.models import Teacher, TeacherSpec, build
from lpqld.views import ViewRule


def fixed_cost(logits: NDArray[np.float32], codec: TopK) -> dict[str, Any]:
    """Bytes of a label set of these labels by part; three views an image where that divides them, else one."""
    num_views, num_classes = logits.shape
    views_per_image = 3 if num_views % 3 == 0 else 1
    num_images = num_views // views_per_image
    names = tuple(f"n{10_000_000 + 7919 * number}" for number in range(num_classes))  # as long as ImageNet's
    images = ImageSet(
        pixels=torch.zeros(num_images, 3, 8, 8, dtype=torch.uint8),
        labels=torch.arange(num_images) % num_classes,
        class_names=names,
        ids=np.arange(num_images),
        encoded_bytes=np.full(num_images, 5000),
        source="images/",
    )
    teacher = Teacher(build("convnet", num_classes), TeacherSpec("convnet", num_classes, class_names=names))
    spec = specify(
        teacher,
        images,
        ViewRule(),
        views_per_image=views_per_image,
        seed=0,
        batch_size=100,
        device=torch.device("cpu"),
    )
    kept = encode(Labels(spec, Logits(dense_ids(*logits.shape), logits)), codec)
    shards, headers = sum(len(content) for content in kept.shards), HEADER.size * len(kept.shards)
    parts = {"payload": shards - headers, "shard_headers": headers, "manifest": kept.num_bytes - shards}
    return {
        "num_images": num_images,
        "num_views": num_views,
        "num_classes": num_classes,
        "k": codec.k,
        "num_shards": len(kept.shards),
        "bytes": {**parts, "total": kept.num_bytes},
        "share_of_total": {name: size / kept.num_bytes for name, size in parts.items()},
    }
