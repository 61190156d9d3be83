"""Codecs: the logits of views to bytes and back, one codec a file."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.codecs.base import Codec
    from lpqld.codecs.dense import Dense
    from lpqld.codecs.hard import Hard
    from lpqld.codecs.logits import Logits, dense_ids
    from lpqld.codecs.lowrank import LowRank
    from lpqld.codecs.registry import codec_class, codec_for, codec_from_json, default_codec_name, needs_pilot
    from lpqld.codecs.topk import TopK

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
