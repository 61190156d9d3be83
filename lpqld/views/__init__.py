"""Which augmented views of images exist, and how they become pixels."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.views.bank import ImageBank, bank_of
    from lpqld.views.boxes import draw_crops
    from lpqld.views.params import ViewParams
    from lpqld.views.recorded import RecordedSource
    from lpqld.views.registry import VIEW_FILES, drawn_by, format_versions, read_views
    from lpqld.views.render_pillow import render_as_pillow
    from lpqld.views.rendering import render, resized_crops
    from lpqld.views.rule import ViewRule
    from lpqld.views.source import TableOfViews, ViewOrder, Views, ViewSource
    from lpqld.views.table import ViewTable
    from lpqld.views.table_layout import CropUnit

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
