"""Which augmented views of images exist, and how they become pixels."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.views.bank import ImageBank, bank_of
    from lpqld.views.drawn import ViewOrder, ViewParams, ViewRule, Views, draw_crops
    from lpqld.views.recorded import StoredOrder, StoredViews
    from lpqld.views.render_pillow import render_as_pillow
    from lpqld.views.rendering import render, resized_crops
    from lpqld.views.table import MAX_TABLE_BYTES, VIEWS_FILE, ViewTable, read_table
    from lpqld.views.table_layout import CropUnit

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
