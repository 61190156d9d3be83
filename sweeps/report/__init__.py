"""Results as tables, figures and data-set cards."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.report.bars import bar_figure
    from sweeps.report.front_figure import figure
    from sweeps.report.hub_data_set import FIGURE_FILE, Origin, write_data_set
    from sweeps.report.image_sheets import contact_sheet, side_by_side
    from sweeps.report.palette import BLUE, GREY, INK, MARKERS, OTHER_COLOURS, plain, png, tidy
    from sweeps.report.pareto import front, hypervolume
    from sweeps.report.result import Accuracy, Point, SweepResult, load_result
    from sweeps.report.tables import (
        IMAGES_FILE,
        REPORT_FILES,
        TEMPERATURES_FILE,
        mark_front,
        markdown,
        records,
        table,
        text_table,
        write_report,
    )
    from sweeps.report.temperatures import temperature_figure
    from sweeps.report.versions import environment

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
