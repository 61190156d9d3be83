"""The k largest logits of every view, in steps or as fp16, and what the other classes have."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.absent import ABSENT_NUMBERS, Absent, absent_levels
from lpqld.codecs.base import Codec, CodecRequest, check_positive
from lpqld.codecs.entropy.context_model import fresh_model
from lpqld.codecs.entropy.label_coder import code_views
from lpqld.codecs.entropy.payload import decode_in_parts, encode_in_parts
from lpqld.codecs.entropy.range_coder import STATE_BYTES, Buffer, State
from lpqld.codecs.label_block import LabelBlock
from lpqld.codecs.largest import largest
from lpqld.codecs.logits import Logits
from lpqld.codecs.quantize import Quantized, dequantize, quantize
from lpqld.codecs.steps import StepCodec, step_for_bits
from lpqld.errors import ConfigError, DataError

# What the command line calls the ways to describe classes that are not kept.
_ABSENT: dict[str, Absent] = {"topk": "none", "topk-min": "minimum", "topk-share": "share", "topk-tail": "tail"}
_SHARE_TEMPERATURE = 4.0
_CHUNK_VALUES = 2**18
# The least likely outcome of an adaptive bit is 2**-11; of a class being kept, 2**-11; of its not being kept, 2**-5.1.
_ADAPTIVE_BITS, _MISS_BITS = 11, 5.1


@dataclass(frozen=True)
class TopK(StepCodec):
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
    command_names: ClassVar[tuple[str, ...]] = tuple(_ABSENT)
    keeps_largest: ClassVar[bool] = True

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

    @classmethod
    def for_labels(cls, request: CodecRequest) -> TopK:
        """k of the classes that the labels hold, by default all of those."""
        stored = request.pilot.ids.shape[1]
        k = stored if request.k is None else request.k
        if not 1 <= k <= stored:
            raise ConfigError(f"k must be 1 to {stored}, the classes that these labels hold; found {k}")
        absent = _ABSENT[request.name]
        temperature = _SHARE_TEMPERATURE if absent == "share" else None
        return cls(k, step_for_bits(request.pilot, k, request.bits), absent, temperature)

    def like(self, source: Codec) -> TopK:
        """What it says of other classes is as in `source`."""
        return replace(self, absent=source.absent, temperature=source.temperature) if isinstance(source, TopK) else self

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

    def _encode(self, block: LabelBlock) -> bytes:
        return self._coded(block)[0]

    def _sizes(self, block: LabelBlock) -> NDArray[np.int64]:
        return self._coded(block)[1]

    def _coded(self, block: LabelBlock) -> tuple[bytes, NDArray[np.int64]]:
        """The payload, and the length of every shorter one."""
        labels, num_classes = self._quantized(block), block.num_classes
        model = fresh_model(num_classes, 1 + self._num_numbers)

        def code(state: State, buffer: Buffer, some: slice, sizes: NDArray[np.int64]) -> None:
            ids, below, numbers = labels.ids[some], labels.below[some], labels.numbers[some]
            code_views(None, state, buffer, model, block.hints[some], ids, below, numbers, sizes, some.start)

        part_views = max(1, _CHUNK_VALUES // num_classes)
        return encode_in_parts(len(block), part_views, lambda count: self.max_bytes(count, num_classes), code)

    def _decode(self, payload: bytes, num_views: int, num_classes: int, hints: NDArray[np.int32]) -> Logits:
        if self.k > num_classes:
            raise DataError(f"k={self.k} exceeds the {num_classes} classes of these labels")
        # Without hints every label costs at least the bits of its argmax, so a short payload cannot claim many.
        if hints.shape[1] == 0 and num_views > 8 * (len(payload) + STATE_BYTES) / math.log2(num_classes):
            raise DataError(f"top-k payload of {len(payload)} bytes cannot hold {num_views} labels: it is damaged")
        model = fresh_model(num_classes, 1 + self._num_numbers)

        def code(state: State, buffer: Buffer, some: slice) -> Quantized:
            labels = Quantized.zeros(some.stop - some.start, self.k, self._num_numbers)
            sizes = np.zeros(len(labels.ids), dtype=np.int64)
            code_views(True, state, buffer, model, hints[some], *labels, sizes, some.start)
            return labels

        parts = decode_in_parts(payload, num_views, max(1, _CHUNK_VALUES // self.k), code, "top-k")
        return Logits.concatenate([self._dequantized(part, num_classes) for part in parts])

    def _roundtrip(self, block: LabelBlock) -> Logits:
        return self._dequantized(self._quantized(block), block.num_classes)

    def _quantized(self, block: LabelBlock) -> Quantized:
        return quantize(block, self.k, self.step, self.absent, self.temperature)

    def _dequantized(self, labels: Quantized, num_classes: int) -> Logits:
        return dequantize(labels, num_classes, self.step, self.absent)
