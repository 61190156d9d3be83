"""Controlled experiments: the soft-label baseline's studies."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.studies.percent import signed, spread
    from sweeps.studies.registry import STUDY_NAMES, study_named
    from sweeps.studies.report import FIGURE_FILE, RESULT_FILE, document, markdown
    from sweeps.studies.tracked import study_recorded

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
