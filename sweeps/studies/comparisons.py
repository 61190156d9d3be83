"""Results of a study beside each other: what validation chose, and differences from unchanged labels."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.report import Accuracy
from sweeps.studies.case import Case
from sweeps.studies.results import CaseResult


def best_by_ipc(results: Sequence[CaseResult]) -> dict[int, CaseResult]:
    """For each number of images the case that the validation images choose."""
    best: dict[int, CaseResult] = {}
    for result in results:
        known = best.get(result.case.ipc)
        if known is None or result.val_accuracy.mean > known.val_accuracy.mean:
            best[result.case.ipc] = result
    return best


def flattery(results: Sequence[CaseResult]) -> dict[int, float]:
    """For each number of images, how far the best test accuracy is above that of the case that validation chose."""
    return {
        ipc: max(each.accuracy.mean for each in results if each.case.ipc == ipc) - chosen.accuracy.mean
        for ipc, chosen in best_by_ipc(results).items()
    }


def beside_unchanged(results: Sequence[CaseResult]) -> list[Accuracy | None]:
    """For each result, its test accuracies less those of the labels that nothing was done to, seed by seed.

    These are labels of one expert for the same images, with a removed class of the same control. Seeds share images
    and experts, so that this varies less than what it is the difference of. None where there are no such labels, or
    not exactly one.
    """
    return [_less_unchanged(result, results) for result in results]


def _less_unchanged(result: CaseResult, results: Sequence[CaseResult]) -> Accuracy | None:
    unchanged = [other for other in results if _is_unchanged(other.case, result.case)]
    if len(unchanged) != 1 or unchanged[0].case == result.case:
        return None
    pairs = zip(result.accuracy.values, unchanged[0].accuracy.values, strict=True)
    differences = [mine - plain for mine, plain in pairs]
    return Accuracy.of(differences) if differences else None


def _is_unchanged(other: Case, case: Case) -> bool:
    """Whether `other` has the labels that nothing was done to, of the images and the expert of `case`."""
    same_images = (other.ipc, other.members, other.edit) == (case.ipc, 1, case.edit.unchanged)
    return same_images and other.epoch is not None and case.epoch in (None, other.epoch)
