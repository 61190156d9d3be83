"""What follows from a study's findings: what validation chose, the frontier of data budgets, the scaling law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweeps.report import Accuracy, front
from sweeps.studies.cases import Case
from sweeps.studies.run import Finding
from sweeps.studies.scaling_law import ScalingLaw, fit_scaling_law


def best_by_ipc(findings: Sequence[Finding]) -> dict[int, Finding]:
    """For each number of images the case that the validation images choose."""
    found: dict[int, Finding] = {}
    for finding in findings:
        known = found.get(finding.case.ipc)
        if known is None or finding.val_accuracy.mean > known.val_accuracy.mean:
            found[finding.case.ipc] = finding
    return found


def flattery(findings: Sequence[Finding]) -> dict[int, float]:
    """For each number of images, how far the best test accuracy is above that of the case that validation chose."""
    return {
        ipc: max(each.accuracy.mean for each in findings if each.case.ipc == ipc) - chosen.accuracy.mean
        for ipc, chosen in best_by_ipc(findings).items()
    }


def beside_unchanged(findings: Sequence[Finding]) -> list[Accuracy | None]:
    """For each finding, its test accuracies less those of the labels that nothing was done to, seed by seed.

    These are labels of one expert for the same images, with a removed class of the same control. Seeds share images
    and experts, so that this varies less than what it is the difference of. None where there are no such labels, or
    not exactly one.
    """
    found: list[Accuracy | None] = []
    for finding in findings:
        case = finding.case
        others = [
            other
            for other in findings
            if replace(other.case, epoch=None) == Case(case.ipc, removed=case.removed)
            and other.case.epoch is not None
            and case.epoch in (None, other.case.epoch)
        ]
        same = len(others) != 1 or others[0].case == case
        pairs = [] if same else zip(finding.accuracy.values, others[0].accuracy.values, strict=True)
        differences = [mine - plain for mine, plain in pairs]
        found.append(Accuracy.of(differences) if differences else None)
    return found


def data_bytes(finding: Finding) -> int:
    """Of images and labels on disk."""
    return finding.image_bytes + finding.label_bytes


def frontier(findings: Sequence[Finding]) -> list[Finding]:
    """The envelope over all that a study varies: what nothing else beats in bytes of data and on validation."""
    beaten_by_none = front(
        [data_bytes(finding) for finding in findings], [finding.val_accuracy.mean for finding in findings]
    )
    chosen = [finding for finding, stays in zip(findings, beaten_by_none, strict=True) if stays]
    # Of equals the first, as where validation chooses one.
    return sorted({data_bytes(finding): finding for finding in reversed(chosen)}.values(), key=data_bytes)


def kept_classes(finding: Finding) -> int:
    """How many classes a label of the scaling study keeps; 0: it is hard."""
    case = finding.case
    return 0 if case.edit == "hard" else finding.num_classes if case.value is None else int(case.value)


def law_of(findings: Sequence[Finding]) -> ScalingLaw | None:
    """The scaling law of the accuracies of a grid; argmax labels, which it has no place for, are left out."""
    some = [finding for finding in findings if kept_classes(finding) != 1]
    return fit_scaling_law(
        [finding.case.ipc for finding in some],
        [kept_classes(finding) for finding in some],
        [finding.accuracy.mean for finding in some],
    )


def exchange(law: ScalingLaw, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """What the law makes of the soft labels of a grid: for each, how many images with hard labels one image is worth.

    `beyond` tells where that many hard images are more than any that were measured. `image_bytes_a_label_byte` is how
    many bytes of images a byte more of labels replaces. Values that are not finite are None (see `ScalingLaw.worth`).
    """
    hard = {finding.case.ipc: finding for finding in findings if kept_classes(finding) == 0}
    rows = []
    for finding in findings:
        ipc, k = finding.case.ipc, kept_classes(finding)
        if k < 2 or ipc not in hard:
            continue
        worth = law.worth(ipc, k)
        more = max(1, finding.label_bytes - hard[ipc].label_bytes)
        rows.append(
            {
                "ipc": ipc,
                "k": k,
                "worth": worth.to_json(),
                "beyond": worth.value * ipc > max(hard),
                "image_bytes_a_label_byte": worth.scaled(finding.image_bytes / more, offset=-1).to_json(),
            }
        )
    return rows
