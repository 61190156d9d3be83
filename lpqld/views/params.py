"""What it takes to render views, however they were chosen."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ViewParams:
    """What it takes to render B views. Boxes are (top, left, height, width) as fractions of the side, [B, 4] float32.

    `rows` and `partner` are rows of the image set, [B] int64. Without mixing `lam` is 1 and `box` empty; a mixup view
    has `lam` below 1, a CutMix view a `box`. Without cutout `cutout` is empty; `color` is its RGB in [0, 1], [B, 3].
    """

    rows: NDArray[np.int64]
    crop: NDArray[np.float32]
    flip: NDArray[np.bool_]
    partner: NDArray[np.int64]
    partner_crop: NDArray[np.float32]
    partner_flip: NDArray[np.bool_]
    lam: NDArray[np.float32]
    box: NDArray[np.float32]
    cutout: NDArray[np.float32]
    color: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64] | slice) -> ViewParams:
        """The parameters of some of these views."""
        return ViewParams(**{field.name: getattr(self, field.name)[index] for field in fields(self)})
