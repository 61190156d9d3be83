"""Codecs: logits to bytes and back, one a file."""

from __future__ import annotations

from typing import Any

from lpqld.codec.base import Codec, Logits
from lpqld.codec.dense import Dense
from lpqld.codec.topk import TopK, step_for_bits
from lpqld.errors import ConfigError, DataError

__all__ = ["Codec", "Dense", "Logits", "TopK", "codec_for", "codec_from_json", "step_for_bits"]

_CODECS: dict[str, type[Dense] | type[TopK]] = {"dense": Dense, "topk": TopK}


def codec_from_json(document: dict[str, Any]) -> Codec:
    """The codec that a manifest describes.

    Raises:
        DataError: this version knows no such codec.
    """
    options = {key: value for key, value in document.items() if key != "name"}
    try:
        return _CODECS[document["name"]](**options)
    except (KeyError, TypeError) as error:
        known = ", ".join(_CODECS)
        raise DataError(f"unknown codec {document}; this version of lpqld reads {known}") from error


def codec_for(name: str, *, k: int | None, bits: int, num_classes: int, pilot: Logits) -> Codec:
    """The codec that `--codec --k --bits` ask for; a step is fixed from the pilot's labels.

    Raises:
        ConfigError: an unknown name, or k or bits out of range.
    """
    if name not in _CODECS:
        raise ConfigError(f"unknown codec {name!r}; choose one of {', '.join(_CODECS)}")
    if name == "dense":
        if k is not None and k != num_classes:
            raise ConfigError(f"codec dense keeps all {num_classes} classes, not k={k}; use --codec topk")
        if bits == 16:
            return Dense()
    kept = num_classes if k is None else k
    stored = pilot.ids.shape[1]
    if not 1 <= kept <= stored:
        raise ConfigError(f"k must be 1 to {stored}, the classes that these labels hold; found {kept}")
    return TopK(k=kept, step=step_for_bits(pilot, kept, bits))
