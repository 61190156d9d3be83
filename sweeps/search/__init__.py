"""Choosing settings of labels and recipe per byte budget."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.search.baseline_choices import Baselines, baselines
    from sweeps.search.choice import BudgetChoice, Choice
    from sweeps.search.confirmation import confirm
    from sweeps.search.folder import CONFIG_FILE, REPORT_FOLDER, claimed
    from sweeps.search.inputs import open_inputs
    from sweeps.search.job import SweepJob
    from sweeps.search.masters import SharedData, object_store_bytes, share_masters
    from sweeps.search.points import best_choice, point_of, temperatures_png, written_point
    from sweeps.search.reference_container import reference_bytes
    from sweeps.search.run import search
    from sweeps.search.shared import MasterLabels, Shared
    from sweeps.search.spaces import Space, spaces_for
    from sweeps.search.tracked import TrialLog, start_tracking
    from sweeps.search.trial import TrialResult, epochs_between_rungs

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
