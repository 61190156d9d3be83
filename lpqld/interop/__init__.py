"""Other projects' label folders and images, in and out."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.interop.array_images import read_tensors
    from lpqld.interop.fkd_export import export_fkd
    from lpqld.interop.fkd_import import import_fkd
    from lpqld.interop.images import check_class_order, named, of_tensors, soft_labels

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
