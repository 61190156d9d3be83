"""The mean of the logits of several experts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lpqld.errors import ConfigError
from sweeps.studies.case import Case
from sweeps.studies.panels import lines
from sweeps.studies.results import CaseResult
from sweeps.studies.study import Panel, Study, StudyInputs

_MEMBERS = (1, 2, 4, 8)


def _cases(inputs: StudyInputs) -> list[Case]:
    config, num_experts = inputs.config, inputs.num_experts
    sizes = config.members or [members for members in _MEMBERS if members <= num_experts]
    largest = max(2, *sizes)
    if num_experts < largest:
        more = "name more with experts.source" if config.experts.source else "raise experts.seeds"
        raise ConfigError(f"an ensemble of {largest} needs as many experts, and there are {num_experts}: {more}")
    return [Case(ipc, inputs.expert_epoch(), members) for ipc in config.ipc for members in sizes]


def _panels(results: Sequence[CaseResult]) -> list[Panel]:
    return [partial(lines, results=results, at=lambda result: result.case.members, label="Experts")]


STUDY = Study(
    name="ensemble",
    about="the mean of the logits of several experts",
    cases=_cases,
    panels=_panels,
)
