"""Settings of sweeps and studies, and the presets."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from sweeps.config.load import load_config, load_study_config, parse_settings, preset_names
    from sweeps.config.study import ExpertsConfig, StudyConfig
    from sweeps.config.sweep import (
        EvalConfig,
        ImagesConfig,
        PaperConfig,
        ResourcesConfig,
        SearchConfig,
        SweepConfig,
        TeacherConfig,
        ViewsConfig,
    )

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
