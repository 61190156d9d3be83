"""How varied the images of a class are, as a teacher sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import DataError
from lpqld.images import ImageSet
from lpqld.models import Teacher, predict


@torch.inference_mode()
def within_class_similarity(
    teacher: Teacher, images: ImageSet, device: torch.device, batch_size: int = 250
) -> float | None:
    """Mean pairwise cosine of penultimate features over images of one class, in [-1, 1]; lower is more varied.

    LPQLD (arXiv 2604.18135) reports it for recovered images. Penultimate features are what enters the teacher's last
    linear layer. None where no class has two images.

    Raises:
        DataError: the teacher has no linear layer.
    """
    linear = [module for module in teacher.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise DataError(f"{teacher.spec.architecture} has no linear layer, so its penultimate features are not defined")
    collected: list[torch.Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _module, inputs: collected.append(inputs[0].flatten(1).cpu()))
    try:
        teacher.to(device).eval()
        for _ in predict(teacher, images, batch_size):
            pass  # the hook takes what it needs
    finally:
        hook.remove()
    features = F.normalize(torch.cat(collected).double(), dim=1)
    sums = torch.zeros(images.num_classes, features.shape[1], dtype=torch.float64).index_add_(
        0, images.labels, features
    )
    counts = torch.bincount(images.labels, minlength=images.num_classes).double()
    several = counts > 1
    if not several.any():
        return None
    # The squared length of a class's sum counts every pair twice and every image once.
    pairs = (sums.square().sum(1) - counts)[several] / (counts * (counts - 1))[several]
    return float(pairs.mean())
