"""MLflow: experiments, runs, and the web UI."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.tracking.experiment import KIND_TAG, Experiment
    from sweeps.tracking.tracker import CONFIG_TAG, Tracker
    from sweeps.tracking.ui import serve

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
