"""A grid of images and classes kept in a label: the law that is fitted to it, and what a label is worth by the law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lpqld.codecs import TopK
from sweeps.studies.case_labels import ImageLabels
from sweeps.studies.edits import Edit, Hard
from sweeps.studies.results import CaseResult
from sweeps.studies.scaling_law import ScalingLaw, fit_scaling_law


@dataclass(frozen=True)
class KeptClasses(Edit):
    """The `k` most probable classes of each label alone."""

    name: ClassVar[str] = "top-k"
    k: int

    @property
    def value(self) -> int:
        """How many classes are kept."""
        return self.k

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels that are stored as their largest classes."""
        return replace(labels, codec=TopK(self.k))


def kept_classes(result: CaseResult) -> int:
    """How many classes a label of the grid keeps; 0: it is hard."""
    edit = result.case.edit
    if isinstance(edit, Hard):
        return 0
    return edit.k if isinstance(edit, KeptClasses) else result.num_classes


def law_of(results: Sequence[CaseResult]) -> ScalingLaw | None:
    """The scaling law of the accuracies of a grid; argmax labels, which it has no place for, are left out."""
    fitted = [result for result in results if kept_classes(result) != 1]
    return fit_scaling_law(
        [result.case.ipc for result in fitted],
        [kept_classes(result) for result in fitted],
        [result.accuracy.mean for result in fitted],
    )


def exchange(law: ScalingLaw, results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """What the law makes of the soft labels of a grid: for each, how many images with hard labels one image is worth.

    `beyond` tells where that many hard images are more than any that were measured. `image_bytes_a_label_byte` is how
    many bytes of images a byte more of labels replaces. Values that are not finite are None (see `ScalingLaw.worth`).
    """
    hard = {result.case.ipc: result for result in results if kept_classes(result) == 0}
    rows = []
    for result in results:
        ipc, k = result.case.ipc, kept_classes(result)
        if k < 2 or ipc not in hard:
            continue
        worth = law.worth(ipc, k)
        more = max(1, result.label_bytes - hard[ipc].label_bytes)
        rows.append(
            {
                "ipc": ipc,
                "k": k,
                "worth": worth.to_json(),
                "beyond": worth.value * ipc > max(hard),
                "image_bytes_a_label_byte": worth.scaled(result.image_bytes / more, offset=-1).to_json(),
            }
        )
    return rows
