"""Which codecs there are, and how one is found: by its name in a manifest, or by what the command line asks for."""

from __future__ import annotations

from lpqld.codecs.base import Codec, CodecRequest
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.logits import Logits
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError

_CODECS: tuple[type[Codec], ...] = (Dense, Hard, LowRank, TopK)
_BY_NAME = {codec.name: codec for codec in _CODECS}
_BY_COMMAND_NAME = {name: codec for codec in _CODECS for name in codec.command_names}
CODEC_NAMES = tuple(_BY_COMMAND_NAME)


def codec_from_json(document: object) -> Codec:
    """The codec that a manifest describes: the inverse of `Codec.to_json`.

    Raises:
        DataError: this version knows no such codec, or its options are out of range.
    """
    if not isinstance(document, dict):
        raise DataError(f"codec must be an object, found {document!r:.60}")
    options = {key: value for key, value in document.items() if key != "name"}
    try:
        return _BY_NAME[document["name"]](**options)
    except (KeyError, TypeError) as error:
        known = ", ".join(_BY_NAME)
        raise DataError(f"unknown codec {document!r:.200}; this version of lpqld reads {known}") from error
    except DataError:
        raise
    except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
        raise DataError(f"codec: {error}") from error


def codec_for(name: str, *, k: int | None, bits: int, num_classes: int, pilot: Logits) -> Codec:
    """The codec that a name, `k` and `bits` ask for; a step, or a basis, is fixed from the pilot's labels.

    Args:
        name: one of `CODEC_NAMES`.
        k: classes kept, or directions of "lowrank"; default: all that the labels hold, and 64 directions.
        bits: per value, 2 to 16; 16 is fp16.
        num_classes: C.
        pilot: some labels as they will be encoded.

    Raises:
        ConfigError: an unknown name, or k or bits out of range.
    """
    return codec_class(name).for_labels(CodecRequest(name, k, bits, num_classes, pilot))


def codec_class(name: str) -> type[Codec]:
    """What a name means; its class attributes tell codecs apart before there are labels.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in _BY_COMMAND_NAME:
        raise ConfigError(f"unknown codec {name!r}; choose one of {', '.join(CODEC_NAMES)}")
    return _BY_COMMAND_NAME[name]


def default_codec_name(k: int | None, source: Codec | None = None) -> str:
    """The name of the codec where none is asked for: that of all classes, or, where k is given, of the k largest.

    Args:
        k: classes kept, if that is asked for.
        source: of the labels that new ones are made from, if there are any: those of the largest classes stay such.
    """
    largest = k is not None or (source is not None and source.keeps_largest)
    return TopK.name if largest else Dense.name


def needs_pilot(name: str, bits: int) -> bool:
    """Whether `codec_for` looks at the values of its pilot; if not, any pilot of as many classes will do.

    Raises:
        ConfigError: an unknown name.
    """
    return bits != 16 or codec_class(name).is_fitted
