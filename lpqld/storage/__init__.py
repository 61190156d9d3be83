"""Files that are written whole or not at all: local paths and URIs, strict JSON, tensors read safely."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.storage.bitpack import pack, packed_size, unpack
    from lpqld.storage.checkpoint import TrainingCheckpoint
    from lpqld.storage.files import (
        canonical_json,
        fingerprint,
        kept_json,
        read_json,
        read_part,
        sweep_temporary_files,
        write_atomically,
    )
    from lpqld.storage.paths import TEMPORARY_SUFFIX, Location, RemotePath, check_local, file_sizes, location
    from lpqld.storage.settings import (
        Rule,
        check_settings,
        one_of,
        setting,
        setting_of,
        settings_json,
        settings_values,
    )
    from lpqld.storage.strict_json import Fields, Packed, is_plain, is_text
    from lpqld.storage.torch_files import load_tensors

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
