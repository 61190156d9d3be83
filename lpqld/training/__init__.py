"""Training students on label sets."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.training.calibration import CalibrationPlan, fit_on_views
    from lpqld.training.compiling import Compile
    from lpqld.training.dataset import LabelBatch, ViewDataset, ViewSampler
    from lpqld.training.loop import DivergedError, EpochMetrics, train
    from lpqld.training.loss import kl_divergence
    from lpqld.training.optimizer import make_optimizer
    from lpqld.training.ranks import ALONE, Ranks
    from lpqld.training.recipe import Recipe
    from lpqld.training.student import Student
    from lpqld.training.targets import SoftTargets
    from lpqld.training.temperature import CONSTANT, parse_schedule, schedule_parts

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
