"""Label sets: their format, reading and writing them, making smaller ones, measuring them."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.labels.budget import PrefixSizes, fill_budget
    from lpqld.labels.compress import EncodedLabels, RecodedLabels, encode, keep_share, recode, smaller_codec
    from lpqld.labels.fidelity import TEMPERATURES, entropy, largest_difference, probabilities, total_variation
    from lpqld.labels.label_set import Labels, LabelSet
    from lpqld.labels.manifest import MANIFEST_FILE, Manifest
    from lpqld.labels.provenance import UNKNOWN_TEACHER, ImagesRef, TeacherRef
    from lpqld.labels.relabel import Labeler, shard_size, specify
    from lpqld.labels.select import reordered
    from lpqld.labels.shards import (
        HEADER,
        SHARD_SUFFIX,
        Shard,
        ShardLabels,
        check_header,
        decode_shard,
        encode_shard,
        shard_file,
    )
    from lpqld.labels.source import HardLabels, LabelSource, RepeatedLabels
    from lpqld.labels.spec import LabelSpec
    from lpqld.labels.whole_image import whole_image_labels

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
