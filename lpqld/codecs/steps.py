"""Values in whole steps, or as fp16: what the codecs have in common that store values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Self

import numpy as np

from lpqld.codecs.base import Codec, check_bits
from lpqld.codecs.logits import Logits


class StepCodec(Codec):
    """A codec, a dataclass, that stores values in multiples of `step`, or as fp16 where that is None."""

    step: float | None

    @property
    def value_step(self) -> float | None:
        """The step."""
        return self.step

    @property
    def stores_half(self) -> bool:
        """Without a step."""
        return self.step is None

    def with_step(self, step: float) -> Self:
        """The same with another step."""
        return replace(self, step=step)  # type: ignore[type-var]


def step_for_bits(logits: Logits, k: int, bits: int) -> float | None:
    """The step at which the k largest values of a pilot's labels span 2**bits - 1 steps; None (fp16) at 16 bits.

    Args:
        logits: the pilot, a few thousand views.
        k: classes kept, at least 1.
        bits: bits per value, 2 to 16.

    Raises:
        ConfigError: bits out of range.
    """
    check_bits(bits)
    if bits == 16:
        return None
    k = min(k, logits.values.shape[1])
    kept = -np.partition(-logits.values, k - 1, axis=1)[:, :k]
    span = float((kept.max(axis=1) - kept.min(axis=1)).max(initial=0.0))
    step = max(span, 1e-3) / (2**bits - 1)
    # Four digits keep the manifest short; rounded up, or the widest label would need one bit more.
    unit = 10.0 ** (math.floor(math.log10(step)) - 3)
    return float(f"{math.ceil(step / unit - 1e-9) * unit:.4g}")
