"""What every codec promises, and what each has to say of itself.

A codec is its configuration: a frozen dataclass, equal when its JSON is equal. `encode` turns the teacher's logits of
some views into bytes, `decode` turns them back, given how many views and classes there were. Both are pure functions;
the same input gives the same bytes everywhere. Malformed bytes raise `DataError`, never anything else.

A new codec is a subclass of `Codec` in a file of its own, and a line in `registry`. Whoever uses codecs asks them what
they are like by the attributes and methods below, never by their class or name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.label_block import LabelBlock, check_classes, check_hints
from lpqld.codecs.logits import DenseOrSparse, Logits, dense_ids
from lpqld.errors import ConfigError, DataError

# What fp16 resolves at a logit of 20.
_HALF_PRECISION_STEP = 1 / 64


@dataclass(frozen=True, eq=False)
class CodecRequest:
    """What a name, `k` and `bits` ask for.

    Attributes:
        name: one of a codec's `command_names`.
        k: classes kept, or what else the codec has that many of; None for its default.
        bits: per value, 2 to 16; 16 is fp16.
        num_classes: C.
        pilot: some labels as they will be encoded.
    """

    name: str
    k: int | None
    bits: int
    num_classes: int
    pilot: Logits

    def check_every_class(self) -> None:
        """Refuse labels that lack classes.

        Raises:
            ConfigError: they do.
        """
        stored = self.pilot.ids.shape[1]
        if stored != self.num_classes:
            raise ConfigError(f"codec {self.name} needs all {self.num_classes} classes; these labels keep {stored}")


class Codec(ABC):
    """Logits to bytes and back.

    Attributes:
        name: in manifests.
        command_names: on the command line: its own, and those of its variants.
        k_counts_classes: whether `k` says how many classes a label keeps.
        usual_bits: the `bits` that served best where accuracy per byte was searched (docs/findings.md).
        is_fitted: whether it is made from labels at any number of bits, also at 16.
        holds_logits: whether labels hold what the teacher said; else they follow from the images alone.
        keeps_largest: whether labels hold the largest logits of each view, and may leave out other classes.
        stores_every_logit: whether labels hold a number for each class of each view.
    """

    name: ClassVar[str]
    command_names: ClassVar[tuple[str, ...]]
    k_counts_classes: ClassVar[bool] = True
    usual_bits: ClassVar[int] = 4
    is_fitted: ClassVar[bool] = False
    holds_logits: ClassVar[bool] = True
    keeps_largest: ClassVar[bool] = False
    stores_every_logit: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def for_labels(cls, request: CodecRequest) -> Codec:
        """The codec that a request with one of `command_names` asks for; a step, or a basis, is fixed from its pilot.

        Raises:
            ConfigError: k or bits are out of range, or the labels lack what the codec needs.
        """

    def encode(
        self, logits: DenseOrSparse, *, num_classes: int | None = None, hints: NDArray[np.int32] | None = None
    ) -> bytes:
        """Bytes of N labels.

        Args:
            logits: float [N, C], or sparse ones of at least as many classes as this codec keeps.
            num_classes: C; sparse logits need it.
            hints: classes that are likely among the largest, int32 [N, 0 to 2], see `label_block`.

        Raises:
            ConfigError: the labels hold fewer classes than this codec keeps, or hints cannot be.
            DataError: a logit is NaN, infinite, or beyond what this codec can hold.
        """
        return self._encode(LabelBlock.of(logits, num_classes, hints))

    def decode(
        self, payload: bytes, *, num_views: int, num_classes: int, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """The logits in `payload`, largest first, or of every class in class order; `hints` as they were encoded with.

        Raises:
            DataError: `payload` is not what `encode` makes of that many views and classes.
        """
        check_classes(num_classes)
        return self._decode(payload, num_views, num_classes, check_hints(hints, num_views, num_classes))

    def roundtrip(
        self, logits: DenseOrSparse, *, num_classes: int | None = None, hints: NDArray[np.int32] | None = None
    ) -> Logits:
        """What `decode` gives of `encode`'s result, view by view and without any bytes; raises as `encode` does."""
        return self._roundtrip(LabelBlock.of(logits, num_classes, hints))

    def sizes(
        self, logits: DenseOrSparse, *, num_classes: int | None = None, hints: NDArray[np.int32] | None = None
    ) -> NDArray[np.int64]:
        """`sizes[n]` is the length of `encode`'s result for the first n views: int64 [N + 1], from one encoding."""
        return self._sizes(LabelBlock.of(logits, num_classes, hints))

    @abstractmethod
    def _encode(self, block: LabelBlock) -> bytes:
        """See `encode`."""

    @abstractmethod
    def _decode(self, payload: bytes, num_views: int, num_classes: int, hints: NDArray[np.int32]) -> Logits:
        """See `decode`; the arguments are checked."""

    @abstractmethod
    def _roundtrip(self, block: LabelBlock) -> Logits:
        """See `roundtrip`."""

    @abstractmethod
    def _sizes(self, block: LabelBlock) -> NDArray[np.int64]:
        """See `sizes`."""

    @abstractmethod
    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """No payload of so many labels is longer."""

    @abstractmethod
    def bytes_per_view(self, num_classes: int) -> float:
        """About how many bytes a label takes: for plans, not a promise."""

    def kept(self, num_classes: int) -> int:
        """How many classes a decoded label holds: all, unless the codec says otherwise."""
        return num_classes

    def keep(self, logits: NDArray[np.floating[Any]]) -> Logits:
        """What `encode` will need of dense logits [N, C], before any rounding: a shard in the making is no larger."""
        return Logits(dense_ids(*logits.shape), logits.astype(np.float32, copy=False))

    @property
    def value_step(self) -> float | None:
        """The step in which values are stored: no finer ones can be made of them; None where they are in none."""
        return None

    @property
    def stores_half(self) -> bool:
        """Whether decoded values are the teacher's in fp16, so that memory of that type holds them as they are."""
        return False

    @property
    def difference_unit(self) -> float:
        """What a stored value's distance to the teacher's is counted in: the step, or fp16's own at a logit of 20."""
        return self.value_step or _HALF_PRECISION_STEP

    def comparable(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of dense logits [N, C] that labels of this codec could hold at all: what they are compared with."""
        return logits

    def with_step(self, step: float) -> Codec:
        """The same with values in steps of `step`; itself where it stores no values."""
        return self

    def like(self, source: Codec) -> Codec:
        """The same, as much like `source` as k and step leave open: for labels that are made from those of `source`."""
        return self

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values, without options that are None."""
        options = {option.name: getattr(self, option.name) for option in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name, **{name: value for name, value in options.items() if value is not None}}


def check_positive(name: str, value: float | None) -> None:
    """Refuse an option that is neither None nor a finite number above 0.

    Raises:
        ConfigError: naming it.
    """
    if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
        raise ConfigError(f"{name} must be a positive number, found {value!r}")


def check_bits(bits: int) -> None:
    """Refuse a number of bits that no value has.

    Raises:
        ConfigError: fewer than 2, or more than 16.
    """
    if not 2 <= bits <= 16:
        raise ConfigError(f"bits must be 2 to 16, found {bits}")


def check_length(payload: bytes, expected: int, what: str) -> None:
    """Refuse a payload of another length."""
    if len(payload) != expected:
        raise DataError(f"{what} payload has {len(payload)} bytes, expected {expected}: the file is damaged")
