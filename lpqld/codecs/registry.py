"""Codecs: logits to bytes and back, one a file."""

from __future__ import annotations

from typing import Any

from lpqld.codecs.base import Codec, Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.topk import TopK, step_for_bits
from lpqld.errors import ConfigError, DataError

__all__ = [
    "CODEC_NAMES",
    "Codec",
    "Dense",
    "Hard",
    "Logits",
    "LowRank",
    "TopK",
    "codec_for",
    "codec_from_json",
    "step_for_bits",
]

_CODECS: dict[str, type[Dense] | type[Hard] | type[LowRank] | type[TopK]] = {
    codec.name: codec for codec in (Dense, Hard, LowRank, TopK)
}
_ABSENT: dict[str, str] = {"topk": "none", "topk-min": "minimum", "topk-share": "share", "topk-tail": "tail"}
_PILOT_VIEWS = 4096
CODEC_NAMES = ("dense", "hard", "lowrank", *_ABSENT)


def codec_from_json(document: dict[str, Any]) -> Codec:
    """The codec that a manifest describes.

    Raises:
        DataError: this version knows no such codec, or its options are out of range.
    """
    options = {key: value for key, value in document.items() if key != "name"}
    try:
        return _CODECS[document["name"]](**options)
    except (KeyError, TypeError) as error:
        known = ", ".join(_CODECS)
        raise DataError(f"unknown codec {document!r:.200}; this version of lpqld reads {known}") from error


def codec_for(
    name: str, *, k: int | None, bits: int, num_classes: int, pilot: Logits, share_temperature: float = 4.0
) -> Codec:
    """The codec that `--codec --k --bits` ask for; a step, or a basis, is fixed from the pilot's labels.

    Args:
        name: one of `CODEC_NAMES`.
        k: classes kept, or directions of "lowrank"; default: all that the labels hold, and 64 directions.
        bits: per value, 2 to 16; 16 is fp16.
        num_classes: C.
        pilot: some labels as they will be encoded.
        share_temperature: of "topk-share".

    Raises:
        ConfigError: an unknown name, or k or bits out of range.
    """
    if name not in CODEC_NAMES:
        raise ConfigError(f"unknown codec {name!r}; choose one of {', '.join(CODEC_NAMES)}")
    stored = pilot.ids.shape[1]
    if name == "hard":
        return Hard()
    if name in ("dense", "lowrank") and stored != num_classes:
        raise ConfigError(f"codec {name} needs all {num_classes} classes; these labels keep {stored}")
    if name == "lowrank":
        rank = min(64, num_classes - 1) if k is None else k
        return LowRank.fit(pilot.take(slice(0, _PILOT_VIEWS)).dense(num_classes), rank=rank, bits=bits)
    if name == "dense":
        if k is not None and k != num_classes:
            raise ConfigError(f"codec dense keeps all {num_classes} classes, not k={k}; use --codec topk")
        return Dense(step_for_bits(pilot, num_classes, bits))
    kept = stored if k is None else k
    if not 1 <= kept <= stored:
        raise ConfigError(f"k must be 1 to {stored}, the classes that these labels hold; found {kept}")
    absent = _ABSENT[name]
    temperature = share_temperature if absent == "share" else None
    return TopK(kept, step_for_bits(pilot, kept, bits), absent, temperature)  # type: ignore[arg-type]
