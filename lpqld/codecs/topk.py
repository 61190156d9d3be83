"""The k largest logits of every view, in steps or as fp16, and what the other classes have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.absent import ABSENT_NUMBERS, Absent, absent_levels
from lpqld.codecs.base import Logits, check_classes, check_hints, check_positive
from lpqld.codecs.entropy.context_model import fresh_model
from lpqld.codecs.entropy.label_coder import code_views
from lpqld.codecs.entropy.range_coder import (
    POSITION,
    STATE_BYTES,
    finish,
    is_past,
    is_whole,
    start_decoding,
    start_encoding,
    with_room,
)
from lpqld.codecs.largest import largest
from lpqld.codecs.quantize import Quantized, dequantize, quantize
from lpqld.errors import ConfigError, DataError

_CHUNK_VALUES = 2**18
# The least likely outcome of an adaptive bit is 2**-11; of a class being kept, 2**-11; of its not being kept, 2**-5.1.
_ADAPTIVE_BITS, _MISS_BITS = 11, 5.1


@dataclass(frozen=True)
class TopK:
    """Keeps the k largest logits; values in whole steps, or as fp16 where `step` is None.

    In steps, every decoded value is within step / 2 of the teacher's, but for one constant shift per label, which
    softmax does not see: the largest decodes to 0. Nothing is clipped. Ties in the choice of k go to the lower class
    id. Decoded order is by value, then id, except that the teacher's argmax always comes first, even where two
    classes share a step.

    The other classes, by `absent`:

    - "none": no probability at all (MR-k, marginal re-normalization, as in LPQLD);
    - "minimum": the label's smallest logit (MRS-k);
    - "share": each an equal share of the mass that softmax at `temperature` leaves them (MS-k);
    - "tail": the same at any temperature, from the mass at 1 and at 20.

    Labels are range-coded by a model that learns from the labels before which classes go together: see
    `context_model`. A long payload is smaller than the sum of its parts, and hints make it smaller still.

    Example:
        >>> codec = TopK(k=2, step=0.25)
        >>> payload = codec.encode(np.array([[0.1, 2.0, 1.4], [3.0, 0.0, 2.9]], dtype=np.float32))
        >>> codec.decode(payload, num_views=2, num_classes=3).ids
        array([[1, 2],
               [0, 2]], dtype=int32)
    """

    name: ClassVar[str] = "topk"

    k: int
    step: float | None = None
    absent: Absent = "none"
    temperature: float | None = None

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise ConfigError(f"k must be a whole number of at least 1, found {self.k!r}")
        check_positive("step", self.step)
        check_positive("temperature", self.temperature)
        if self.absent not in ABSENT_NUMBERS:
            raise ConfigError(f"absent must be one of {', '.join(ABSENT_NUMBERS)}, found {self.absent!r}")
        if (self.absent == "share") != (self.temperature is not None):
            raise ConfigError("absent 'share' needs the temperature at which the shares hold, and only it has one")

    def encode(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> bytes:
        """Bytes of float [N, C], or of sparse logits with at least k classes a view (then `num_classes` is needed).

        Raises:
            ConfigError: k is more than the classes there are.
            DataError: a logit is NaN, infinite, or too large for the step.
        """
        return self._encode(logits, num_classes, hints)[0]

    def sizes(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int64]:
        """`sizes[n]` is the length of `encode`'s result for the first n views: int64 [N + 1], from one encoding."""
        return self._encode(logits, num_classes, hints)[1]

    def decode(
        self, payload: bytes, *, num_views: int, num_classes: int, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """Ids and values [N, k], largest first, and what the other classes have; `hints` as they were encoded with.

        Raises:
            DataError: `payload` is not what `encode` makes of that many views and classes.
        """
        check_classes(num_classes)
        if self.k > num_classes:
            raise DataError(f"k={self.k} exceeds the {num_classes} classes of these labels")
        source = np.frombuffer(payload, dtype=np.uint8).copy()
        # Without hints every label costs at least the bits of its argmax, so a short payload cannot claim many.
        if hints is None and num_views > 8 * (len(source) + STATE_BYTES) / math.log2(num_classes):
            raise DataError(f"top-k payload of {len(source)} bytes cannot hold {num_views} labels: it is damaged")
        hints = check_hints(hints, num_views, num_classes)
        model, state = fresh_model(num_classes, 1 + self._num_numbers), start_decoding(source)
        chunk, parts = max(1, _CHUNK_VALUES // self.k), []
        for start in range(0, max(1, num_views), chunk):
            labels = Quantized.zeros(min(chunk, num_views - start), self.k, self._num_numbers)
            code_views(
                True, state, source, model, hints[start:][:chunk], *labels, np.zeros(chunk, dtype=np.int64), start
            )
            if is_past(state, len(source)):
                break
            parts.append(dequantize(labels, num_classes, self.step, self.absent))
        if not is_whole(state, len(source)):
            raise DataError(f"top-k payload of {len(source)} bytes does not end where its labels do: it is damaged")
        return Logits.concatenate(parts)

    def roundtrip(
        self,
        logits: NDArray[np.floating[Any]] | Logits,
        *,
        num_classes: int | None = None,
        hints: NDArray[np.int32] | None = None,
    ) -> Logits:
        """Ids and values [N, k], largest first, and what the other classes have, as `decode` gives them."""
        num_classes = _classes_of(logits, num_classes)
        labels = quantize(logits, num_classes, self.k, self.step, self.absent, self.temperature)
        return dequantize(labels, num_classes, self.step, self.absent)

    def keep(self, logits: NDArray[np.floating[Any]]) -> Logits:
        """What a label of dense logits [N, C] will hold, before rounding: a shard in the making is no larger."""
        columns = largest(logits, self.k)
        values = np.take_along_axis(logits, columns, axis=1).astype(np.float32)
        levels = absent_levels(logits, columns, self.absent, self.temperature)
        return Logits(columns, values, None if levels is None else levels.astype(np.float32))

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """No payload of so many labels is longer; real ones take a tenth, or less."""
        number_bits = 28 * _ADAPTIVE_BITS + 21
        value_bits = 32 * _ADAPTIVE_BITS + 20
        kept_bits = self.k * (value_bits + _ADAPTIVE_BITS + 24)
        bits = 24 + (1 + self._num_numbers) * number_bits + kept_bits + (num_classes - self.k) * _MISS_BITS
        return STATE_BYTES + math.ceil(num_views * bits / 8)

    def kept(self, num_classes: int) -> int:
        """k."""
        return self.k

    def bytes_per_view(self, num_classes: int) -> float:
        """About: log2 of C over k bits for the ids, less what the model saves, 3.5 bits a value (11 as fp16)."""
        id_bits = (
            math.lgamma(num_classes + 1) - math.lgamma(self.k + 1) - math.lgamma(num_classes - self.k + 1)
        ) / math.log(2)
        value_bits = 11.0 if self.step is None else 3.5
        return (math.log2(num_classes) / 2 + 0.8 * id_bits + self.k * value_bits + 3 * self._num_numbers) / 8

    def to_json(self) -> dict[str, Any]:
        """Name and k; the others where they say something."""
        document = {"name": self.name, "k": self.k, "step": self.step, "temperature": self.temperature}
        if self.absent != "none":
            document["absent"] = self.absent
        return {key: value for key, value in document.items() if value is not None}

    @property
    def _num_numbers(self) -> int:
        """Whole numbers beside ids and values: see `Quantized`."""
        return (self.step is None) + ABSENT_NUMBERS[self.absent]

    def _encode(
        self, logits: NDArray[np.floating[Any]] | Logits, num_classes: int | None, hints: NDArray[np.int32] | None
    ) -> tuple[bytes, NDArray[np.int64]]:
        """The payload, and the length of every shorter one."""
        num_classes = _classes_of(logits, num_classes)
        labels = quantize(logits, num_classes, self.k, self.step, self.absent, self.temperature)
        num_views = len(labels.ids)
        hints = check_hints(hints, num_views, num_classes)
        model, state = fresh_model(num_classes, 1 + self._num_numbers), start_encoding()
        buffer, sizes = np.zeros(1, dtype=np.uint8), np.ones(num_views + 1, dtype=np.int64)
        chunk = max(1, _CHUNK_VALUES // num_classes)
        for start in range(0, num_views, chunk):
            some = slice(start, min(start + chunk, num_views))
            needed = int(state[POSITION]) + self.max_bytes(some.stop - start, num_classes)
            buffer = with_room(buffer, needed)
            ids, below, numbers = (part[some] for part in labels)
            code_views(None, state, buffer, model, hints[some], ids, below, numbers, sizes[1:][some], start)
        return buffer[: finish(state, buffer)].tobytes(), sizes


def _classes_of(logits: NDArray[np.floating[Any]] | Logits, num_classes: int | None) -> int:
    """C, which dense logits say themselves."""
    if num_classes is None:
        if isinstance(logits, Logits):
            raise ConfigError("encoding sparse logits needs num_classes")
        num_classes = logits.shape[1]
    check_classes(num_classes)
    return num_classes


def step_for_bits(logits: Logits, k: int, bits: int) -> float | None:
    """The step at which the k largest values of a pilot's labels span 2**bits - 1 steps; None (fp16) at 16 bits.

    Args:
        logits: the pilot, a few thousand views.
        k: classes kept, at least 1.
        bits: bits per value, 2 to 16.

    Raises:
        ConfigError: bits out of range.
    """
    if not 2 <= bits <= 16:
        raise ConfigError(f"bits must be 2 to 16, found {bits}")
    if bits == 16:
        return None
    k = min(k, logits.values.shape[1])
    kept = -np.partition(-logits.values, k - 1, axis=1)[:, :k]
    span = float((kept.max(axis=1) - kept.min(axis=1)).max(initial=0.0))
    step = max(span, 1e-3) / (2**bits - 1)
    # Four digits keep the manifest short; rounded up, or the widest label would need one bit more.
    unit = 10.0 ** (math.floor(math.log10(step)) - 3)
    return float(f"{math.ceil(step / unit - 1e-9) * unit:.4g}")
