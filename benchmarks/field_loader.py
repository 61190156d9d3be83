"""The field's way: PIL and torchvision an image at a time, DataLoader workers, a torch file a batch.

Rebuilt from what is documented of FKD-style code (SRe2L, LPLD, LPQLD): images are files in class folders; a worker
opens one, crops and resizes it with PIL, flips and normalises it; batches are mixed with CutMix; a batch's labels are
one `torch.save` of crops, flips, partners, box, lambda, the largest logits (fp16) and their classes (int16). In
training the same batch file says what to crop, and the same loader does it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
View = tuple[torch.Tensor, torch.Tensor, bool]


class Views(Dataset[View]):
    """Views of image files: drawn afresh, or those that batch files say."""

    def __init__(self, files: list[Path], side: int, recorded: dict[int, tuple[torch.Tensor, bool]] | None = None):
        self.files, self.side, self.recorded = files, side, recorded

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> View:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        width, height = image.size
        if self.recorded is None:
            top, left, h, w = transforms.RandomResizedCrop.get_params(image, scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3])
            coordinates = torch.tensor([top / height, left / width, h / height, w / width])
            flip = bool(torch.rand(1) < 0.5)
        else:
            coordinates, flip = self.recorded[index]
            top, left = round(float(coordinates[0]) * height), round(float(coordinates[1]) * width)
            h, w = round(float(coordinates[2]) * height), round(float(coordinates[3]) * width)
        size = [self.side, self.side]
        image = functional.resized_crop(image, top, left, h, w, size, transforms.InterpolationMode.BILINEAR)
        if flip:
            image = functional.hflip(image)
        return functional.normalize(functional.to_tensor(image), MEAN, STD), coordinates, flip


def relabel(
    files: list[Path], side: int, batch_size: int, k: int, out: Path, teacher: Any, workers: int, classes: int
) -> Iterator[int]:
    """Label every image once, a file a batch in `out`; yields images done. `teacher` None stands for given logits."""
    loader = DataLoader(Views(files, side), batch_size, shuffle=True, num_workers=workers, drop_last=True)
    given = torch.randn(batch_size, classes)
    for number, (images, coordinates, flip) in enumerate(loader):
        mixed, partner, lam, box = _cutmix(images)
        logits = given if teacher is None else teacher(mixed)
        values, ids = logits.topk(k)
        torch.save(
            [coordinates.half(), flip, partner.to(torch.uint8), lam, box, values.half(), ids.to(torch.int16)],
            out / f"batch_{number}.tar",
        )
        yield len(images)


def replay(
    files: list[Path], order: list[int], side: int, batch_size: int, labels: Path, train: Any, workers: int
) -> Iterator[int]:
    """Read the batch files in `labels` and render their views again; yields images done."""
    batches = [torch.load(labels / f"batch_{n}.tar") for n in range(len(order) // batch_size)]
    recorded = {
        index: (batches[n // batch_size][0][n % batch_size].float(), bool(batches[n // batch_size][1][n % batch_size]))
        for n, index in enumerate(order[: len(batches) * batch_size])
    }
    dataset = Views(files, side, recorded)
    loader = DataLoader(dataset, batch_size, sampler=order[: len(recorded)], num_workers=workers)
    for number, (images, _, _) in enumerate(loader):
        _, _, partner, _, box, values, ids = torch.load(labels / f"batch_{number}.tar")
        mixed = images.clone()
        x1, y1, x2, y2 = (int(edge) for edge in box)
        mixed[:, :, x1:x2, y1:y2] = images[partner.long(), :, x1:x2, y1:y2]
        if train is not None:
            train(mixed, ids.long(), values.float())
        yield len(images)


def _cutmix(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float, tuple[int, int, int, int]]:
    lam, side = float(np.random.beta(1.0, 1.0)), images.shape[-1]
    cut = int(side * (1 - lam) ** 0.5)
    centre = np.random.randint(side, size=2)
    (x1, y1), (x2, y2) = (np.clip(centre + offset, 0, side) for offset in (-cut // 2, cut // 2))
    partner = torch.randperm(len(images))
    mixed = images.clone()
    mixed[:, :, x1:x2, y1:y2] = images[partner, :, x1:x2, y1:y2]
    return mixed, partner, lam, (int(x1), int(y1), int(x2), int(y2))
