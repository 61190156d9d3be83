"""The registry of studies: a name here, and a module of that name in `sweeps/studies/catalogue` with its `STUDY`.

Names are known without loading what runs a study, so that `lpqld study --help` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lpqld.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.studies.study import Study

STUDY_NAMES = (
    "expert-epoch",
    "temperature",
    "ensemble",
    "swap",
    "entropy",
    "zero-shot",
    "scaling",
    "hard",
)


def study_named(name: str) -> Study:
    """The study of a name in `STUDY_NAMES`.

    Raises:
        ConfigError: there is no such study.
    """
    if name not in STUDY_NAMES:
        raise ConfigError(f"no study {name!r}: expected {', '.join(STUDY_NAMES)}")
    study: Study = import_module(f"sweeps.studies.catalogue.{name.replace('-', '_')}").STUDY
    return study
