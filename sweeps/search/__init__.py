"""Choosing settings of labels and recipe per byte budget."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.search.baseline_choices import baselines
    from sweeps.search.choice import Choice, Shared, all_label_bytes, choose_labels, encode_chosen
    from sweeps.search.folder import CONFIG_FILE, REPORT_FOLDER, SECONDS_FILE, Clock, claimed
    from sweeps.search.reference_container import reference_bytes
    from sweeps.search.run import confirm, search
    from sweeps.search.shared import masters_by_epoch, object_store_bytes, shared_of
    from sweeps.search.spaces import spaces_for
    from sweeps.search.trial import TrialResult, epochs_between_rungs

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
