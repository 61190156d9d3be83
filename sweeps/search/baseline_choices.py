"""The baselines that stand in every report."""

from __future__ import annotations

from dataclasses import replace

from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError
from sweeps.config import SweepConfig
from sweeps.search.choice import Choice, Shared, affordable_views


def baselines(config: SweepConfig, shared: Shared, budgets: tuple[int, ...]) -> tuple[list[Choice], list[str]]:
    """The baselines of every report, and a note for each that cannot be made."""
    recipe, num_classes, stored = shared.recipe, shared.images.num_classes, shared.labels.logits.ids.shape[1]
    constant = Choice(kind="all", temperature="20", ca="off", lr=recipe.lr)
    choices, notes = [replace(constant, kind="hard", temperature="1"), constant], []
    if stored < num_classes:
        notes.append(f"the master labels keep {stored} of {num_classes} classes, so `all` and `prune` train on those")
    if shared.real is not None:
        choices.append(replace(constant, kind="real"))
    paper = Choice(
        kind="paper",
        k=min(config.paper.k_for(num_classes), stored),
        temperature=config.paper.temperature,
        ca="paper",
        lr=recipe.lr,
    )
    for budget in budgets:
        for choice in (replace(constant, kind="prune", budget=budget), replace(paper, budget=budget)):
            try:
                affordable_views(choice, shared)
            except ConfigError as error:
                notes.append(f"no {choice.kind} baseline at {format_bytes(budget)}: {error}")
            else:
                choices.append(choice)
    return choices, notes
