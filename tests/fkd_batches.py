"""Batches of labels as SRe2L's descendants save them."""

import io
from typing import Any

import numpy as np
import torch

SIDE, CLASSES, BATCH = 8, 10, 4


def batch(count: int = BATCH, *, k: int | None = 3, num_classes: int = CLASSES, side: int = SIDE) -> list[Any]:
    """The fields of a batch as the LPQLD reference writes them: CutMix, flips, top k."""
    generator = np.random.default_rng(count)
    crops = torch.tensor([[1, 2, 5, 4]] * count) / side
    logits = torch.from_numpy(np.sort(generator.normal(size=(count, k or num_classes)))[:, ::-1].astype(np.float16))
    fields = [
        crops.half(),
        torch.tensor([True, False] * count)[:count],
        torch.arange(count).flip(0).to(torch.uint8),
        0.5,
        [torch.tensor(edge, dtype=torch.uint8) for edge in (1, 2, 5, 6)],
        logits,
    ]
    if k is not None:
        ids = np.stack([generator.permutation(num_classes)[:k] for _ in range(count)])
        fields.append(torch.from_numpy(ids.astype(np.int16)))
    return fields


def saved(fields: object) -> bytes:
    sink = io.BytesIO()
    torch.save(fields, sink)
    return sink.getvalue()


def changed(place: int, value: object, **options: Any) -> bytes:
    fields = batch(**options)
    fields[place] = value
    return saved(fields)
