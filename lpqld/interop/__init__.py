"""Other projects' label folders and images, in and out."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.interop.fkd_export import export_fkd
    from lpqld.interop.imported_images import ImportedImages, Naming, import_arrays, import_images
    from lpqld.interop.imported_labels import ImportedLabels, import_labels

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
