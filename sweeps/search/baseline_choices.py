"""The baselines that stand in every report."""

from __future__ import annotations

from dataclasses import dataclass

from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError
from sweeps.config import SweepConfig
from sweeps.search.choice import BudgetChoice, Choice
from sweeps.search.choice_kinds import AllLabels, HardLabels, PaperLabels, PrunedLabels, RealImageLabels
from sweeps.search.shared import Shared


@dataclass(frozen=True)
class Baselines:
    """The baselines of a sweep, and a note for each that cannot be made."""

    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()


def baselines(config: SweepConfig, shared: Shared, budgets: tuple[int, ...]) -> Baselines:
    """The baselines of every report; those of a budget that has no room for one label per image become notes."""
    lr, num_classes, stored = shared.recipe.lr, shared.images.num_classes, shared.master.classes_per_view
    # A choice's own temperature and calibration are those of the baselines: constant at 20, off.
    choices: list[Choice] = [HardLabels(temperature="1", lr=lr), AllLabels(lr=lr)]
    notes = []
    if stored < num_classes:
        notes.append(f"the master labels keep {stored} of {num_classes} classes, so `all` and `prune` train on those")
    if shared.real is not None:
        choices.append(RealImageLabels(lr=lr))
    for choice in _of_budgets(config, shared, budgets):
        try:
            choice.require_room(shared)
        except ConfigError as error:
            notes.append(f"no {choice.kind} baseline at {format_bytes(choice.budget or 0)}: {error}")
        else:
            choices.append(choice)
    return Baselines(tuple(choices), tuple(notes))


def _of_budgets(config: SweepConfig, shared: Shared, budgets: tuple[int, ...]) -> list[BudgetChoice]:
    """Pruning alone and the paper's setting, at every budget."""
    k = min(config.paper.k_for(shared.images.num_classes), shared.master.classes_per_view)
    lr, temperature = shared.recipe.lr, config.paper.temperature
    choices: list[BudgetChoice] = []
    for budget in budgets:
        choices.append(PrunedLabels(budget=budget, lr=lr))
        choices.append(PaperLabels(budget=budget, k=k, temperature=temperature, ca="paper", lr=lr))
    return choices
