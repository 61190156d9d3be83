"""All logits of every view by a few coefficients: projected on directions that are stored once."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.base import Codec, CodecRequest, check_bits, check_positive
from lpqld.codecs.entropy.adaptive_bits import LARGEST_NUMBER, NUMBER_CONTEXTS, fresh_odds
from lpqld.codecs.entropy.coefficient_coder import code_coefficients
from lpqld.codecs.entropy.payload import decode_in_parts, encode_in_parts
from lpqld.codecs.entropy.range_coder import STATE_BYTES, Buffer, State
from lpqld.codecs.label_block import LabelBlock, check_finite
from lpqld.codecs.logits import Logits, dense_ids
from lpqld.errors import ConfigError, DataError

MAX_RANK = 1024
_CHUNK_VIEWS = 1024
_PILOT_VIEWS, _DEFAULT_RANK = 4096, 64


@dataclass(frozen=True)
class LowRank(Codec):
    """Logits as mean + basis · coefficients, the coefficients in whole steps: z ≈ μ + s Bᵀn, up to a shift per label.

    Close to the full softmax at high temperatures for few bytes; it flattens the peaks that low temperatures look at
    (docs/label-format.md has the comparison). `LowRank.fit` makes one from a pilot of labels.

    Attributes:
        step: of the coefficients.
        mean: centred mean of each class, fp16 [C], base85.
        scales: of each direction, fp32 [r], base85.
        basis: directions int8 [r, C], row j in units of scales[j], base85.
    """

    name: ClassVar[str] = "lowrank"
    command_names: ClassVar[tuple[str, ...]] = ("lowrank",)
    k_counts_classes: ClassVar[bool] = False
    usual_bits: ClassVar[int] = 5
    is_fitted: ClassVar[bool] = True

    step: float
    mean: str
    scales: str
    basis: str

    def __post_init__(self) -> None:
        check_positive("step", self.step)
        num_classes, rank = len(_unpacked(self.mean, "<f2")), len(_unpacked(self.scales, "<f4"))
        if not 1 <= rank <= MAX_RANK or len(_unpacked(self.basis, "i1")) != rank * num_classes:
            raise ConfigError(f"a basis of {rank} directions (1 to {MAX_RANK}) and {num_classes} classes does not fit")
        if not np.isfinite(self._mean).all() or not np.isfinite(self._basis).all():
            raise ConfigError("a basis must be finite")

    @classmethod
    def for_labels(cls, request: CodecRequest) -> LowRank:
        """k directions, by default 64."""
        request.check_every_class()
        rank = min(_DEFAULT_RANK, request.num_classes - 1) if request.k is None else request.k
        pilot = request.pilot.take(slice(0, _PILOT_VIEWS)).dense(request.num_classes)
        return cls.fit(pilot, rank=rank, bits=request.bits)

    @classmethod
    def fit(cls, pilot: NDArray[np.floating[Any]], *, rank: int, step: float | None = None, bits: int = 8) -> LowRank:
        """The principal directions of a pilot's centred labels.

        Args:
            pilot: logits [P, C].
            rank: directions, at most C - 1.
            step: of the coefficients; default: the largest of the pilot spans 2**bits - 1 steps.
            bits: 2 to 16.

        Raises:
            ConfigError: rank or bits out of range.
        """
        num_classes = pilot.shape[1]
        if not 1 <= rank <= min(MAX_RANK, num_classes - 1):
            raise ConfigError(
                f"rank must be 1 to {min(MAX_RANK, num_classes - 1)}, below the number of classes; found {rank}"
            )
        check_bits(bits)
        check_finite(pilot)
        centred = pilot.astype(np.float64) - pilot.mean(axis=1, keepdims=True, dtype=np.float64)
        mean = centred.mean(axis=0)
        _, vectors = np.linalg.eigh((centred - mean).T @ (centred - mean))
        directions = vectors.T[::-1][:rank]
        scales = (np.abs(directions).max(axis=1) / 127).astype(np.float32)
        basis = np.rint(directions / scales[:, None]).astype(np.int8)
        if step is None:
            span = np.abs((centred - mean) @ (basis * scales[:, None]).T).max(initial=1e-3)
            step = float(f"{2 * span / (2**bits - 1):.4g}")
        return cls(step, _packed(mean.astype("<f2")), _packed(scales.astype("<f4")), _packed(basis))

    @property
    def rank(self) -> int:
        """Coefficients of a label."""
        return len(self._basis)

    def max_bytes(self, num_views: int, num_classes: int) -> int:
        """Every bit of every coefficient at its least likely."""
        return STATE_BYTES + math.ceil(num_views * self.rank * (28 * 11 + 22) / 8)

    def bytes_per_view(self, num_classes: int) -> float:
        """About three bits a coefficient; the basis comes on top, once."""
        return 3 * self.rank / 8

    @property
    def difference_unit(self) -> float:
        """The step of the coefficients."""
        return self.step

    def comparable(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """As they come back: a difference outside of the directions is none of the labels' making."""
        return self.decode(self.encode(logits), num_views=len(logits), num_classes=logits.shape[1]).values

    @cached_property
    def _mean(self) -> NDArray[np.float64]:
        return _unpacked(self.mean, "<f2").astype(np.float64)

    @cached_property
    def _basis(self) -> NDArray[np.float64]:
        """[r, C]."""
        scales = _unpacked(self.scales, "<f4").astype(np.float64)
        return _unpacked(self.basis, "i1").reshape(len(scales), -1) * scales[:, None]

    def _encode(self, block: LabelBlock) -> bytes:
        return self._coded(block)[0]

    def _sizes(self, block: LabelBlock) -> NDArray[np.int64]:
        return self._coded(block)[1]

    def _coded(self, block: LabelBlock) -> tuple[bytes, NDArray[np.int64]]:
        """The payload, and the length of every shorter one."""
        logits = self._known(block)
        odds, counts = _fresh(self.rank)

        def code(state: State, buffer: Buffer, some: slice, sizes: NDArray[np.int64]) -> None:
            whole = self._coefficients(logits[some], some.start)
            code_coefficients(None, state, buffer, odds, counts, whole, sizes)

        return encode_in_parts(len(logits), _CHUNK_VIEWS, lambda count: self.max_bytes(count, logits.shape[1]), code)

    def _decode(self, payload: bytes, num_views: int, num_classes: int, hints: NDArray[np.int32]) -> Logits:
        if num_classes != len(self._mean):
            raise DataError(f"a basis of {len(self._mean)} classes cannot decode labels of {num_classes}")
        odds, counts = _fresh(self.rank)

        def code(state: State, buffer: Buffer, some: slice) -> NDArray[np.int64]:
            whole = np.zeros((some.stop - some.start, self.rank), dtype=np.int64)
            code_coefficients(True, state, buffer, odds, counts, whole, np.zeros(len(whole), dtype=np.int64))
            return whole

        parts = [np.zeros((0, num_classes), dtype=np.float32)]
        with np.errstate(over="ignore", invalid="ignore"):
            for whole in decode_in_parts(payload, num_views, _CHUNK_VIEWS, code, "low-rank"):
                parts.append(self._logits(whole))
        values = np.concatenate(parts)
        if not np.isfinite(values).all():
            raise DataError("low-rank payload holds a value that is not finite: it is damaged")
        return Logits(dense_ids(num_views, num_classes), values)

    def _roundtrip(self, block: LabelBlock) -> Logits:
        """In their last bits they depend on how many views are projected at once."""
        values = self._known(block)
        return Logits(dense_ids(*values.shape), self._logits(self._coefficients(values, 0)))

    def _known(self, block: LabelBlock) -> NDArray[np.floating[Any]]:
        """Logits of the classes that the basis was made for [N, C]."""
        logits = block.every_class(": a low-rank code needs them all")
        if logits.shape[1] != len(self._mean):
            raise ConfigError(f"a basis of {len(self._mean)} classes cannot encode labels of {logits.shape[1]}")
        return logits

    def _logits(self, whole: NDArray[np.int64]) -> NDArray[np.float32]:
        """The inverse of `_coefficients`, up to rounding [N, C]."""
        logits: NDArray[np.float64] = self._mean + (whole * self.step) @ self._basis
        return logits.astype(np.float32)

    def _coefficients(self, logits: NDArray[np.floating[Any]], first: int) -> NDArray[np.int64]:
        """Whole steps along each direction, int64 [N, r]."""
        check_finite(logits, first)
        values = logits.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            centred = values - values.mean(axis=1, keepdims=True) - self._mean
            steps: NDArray[np.float64] = np.rint(centred @ self._basis.T / self.step)
            fits = np.abs(steps).max(axis=1) <= LARGEST_NUMBER
        if not fits.all():
            raise DataError(
                f"view {first + int(fits.argmin())} has a coefficient beyond {LARGEST_NUMBER} steps of {self.step:g}; "
                "use a larger step"
            )
        return steps.astype(np.int64)


def _fresh(rank: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return fresh_odds(rank * NUMBER_CONTEXTS), np.zeros(rank * NUMBER_CONTEXTS, dtype=np.int32)


def _packed(array: NDArray[Any]) -> str:
    return base64.b85encode(array.tobytes()).decode()


def _unpacked(text: str, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b85decode(text), dtype=dtype)
    except (AttributeError, TypeError, ValueError, binascii.Error) as error:
        raise ConfigError(f"not base85 of {dtype} numbers: {error}") from error
