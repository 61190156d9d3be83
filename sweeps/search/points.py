"""From trials to a report's points: the best choice of a budget, and what its students of several seeds come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lpqld.byte_sizes import format_bytes
from sweeps.report import Accuracy, Point, png, temperature_figure
from sweeps.search.choice import BudgetChoice
from sweeps.search.shared import Shared
from sweeps.search.trial import TrialResult


def best_choice(results: Sequence[TrialResult], budget: int) -> BudgetChoice:
    """The choice of a budget with the highest validation accuracy; stopped trials only where none finished."""
    of_budget = [result for result in results if result.choice.budget == budget]
    candidates = [result for result in of_budget if result.finished] or of_budget
    best = max(candidates, key=lambda result: result.val_accuracy).choice
    assert isinstance(best, BudgetChoice), "a search tries no others"
    return best


def point_of(results: Sequence[TrialResult]) -> Point:
    """The point of one choice, from its students of several seeds."""
    first = results[0]
    accuracies = [result.test_accuracy for result in results if result.test_accuracy is not None]
    return Point(
        trial_id=first.choice.trial_id,
        budget=first.choice.budget,
        label_bytes=first.label_bytes,
        image_bytes=first.image_bytes,
        accuracy=Accuracy.of(accuracies),
        val_accuracy=Accuracy.of([result.val_accuracy for result in results]).mean,
        config=first.config,
    )


def written_point(choice: BudgetChoice, results: Sequence[TrialResult], shared: Shared, folder: Path) -> Point:
    """The point of a choice whose label set is written to `folder`; its bytes are those that were reported."""
    target = folder / choice.trial_id
    choice.encode(shared).write(target)
    return replace(point_of(results), labels=str(target))


def temperatures_png(results: Sequence[TrialResult]) -> bytes:
    """The temperatures of one student of each budget's best choice, as PNG."""
    titles = [f"{format_bytes(result.choice.budget or 0)}: {result.choice.temperature}" for result in results]
    pairs = ([(epoch.teacher_temperature, epoch.student_temperature) for epoch in result.history] for result in results)
    return png(temperature_figure(dict(zip(titles, pairs, strict=True))))
