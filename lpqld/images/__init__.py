"""Image sets from any source, and encoded images in memory."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.images.class_names import are_default, are_wordnet, default_names, positions, read_names, timm_names
    from lpqld.images.encoding import Encoding
    from lpqld.images.image_set import ImageSet
    from lpqld.images.memory import (
        ImageMemory,
        choose_memory,
        free_device_bytes,
        free_host_bytes,
        mapped_array,
        memory_words,
        parse_memory,
    )
    from lpqld.images.reading import room_for
    from lpqld.images.sampling import ranks_in_class
    from lpqld.images.sources import count_source
    from lpqld.images.training_images import TrainingImages
    from lpqld.images.writing import write_parquet

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
