"""What a case gave: accuracies of its students, and facts of its label sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpqld.labels import entropy
from sweeps.report import Accuracy
from sweeps.studies.case import Case
from sweeps.studies.case_labels import CaseLabels
from sweeps.studies.expert_logits import ExpertLogits


@dataclass(frozen=True)
class LabelFacts:
    """Of the label set of a case and a seed.

    Attributes:
        label_bytes, image_bytes: on disk.
        num_classes: C.
        entropy: of the labels, their mean in nats.
        expert_accuracy: of the experts on the validation images, their mean; None without experts.
        folder: the label set's.
    """

    label_bytes: int
    image_bytes: int
    num_classes: int
    entropy: float
    expert_accuracy: float | None
    folder: Path

    @classmethod
    def of(cls, labels: CaseLabels, experts: Sequence[ExpertLogits], folder: Path) -> LabelFacts:
        """Of labels that these experts gave, and that are kept in `folder`."""
        spec = labels.encoded.spec
        return cls(
            label_bytes=labels.encoded.num_bytes,
            image_bytes=spec.images.image_bytes,
            num_classes=spec.num_classes,
            entropy=entropy(labels.decoded),
            expert_accuracy=float(np.mean([expert.accuracy for expert in experts])) if experts else None,
            folder=folder,
        )


@dataclass(frozen=True)
class CaseResult:
    """What a case gave; accuracies are fractions, over seeds, and all else that samples differ in is their mean.

    Attributes:
        case: what was done.
        accuracy, val_accuracy: of students on the test and validation images.
        class_accuracy: on the test images of the removed class, where one is.
        label_bytes, image_bytes: on disk.
        num_classes: C.
        entropy: of the labels, their mean in nats.
        expert_accuracy: of the experts on the validation images, their mean; None without experts.
        labels: the label sets' folders, one a seed.
    """

    case: Case
    accuracy: Accuracy
    val_accuracy: Accuracy
    class_accuracy: Accuracy | None
    label_bytes: int
    image_bytes: int
    num_classes: int
    entropy: float
    expert_accuracy: float | None
    labels: tuple[str, ...]

    @classmethod
    def of(cls, case: Case, facts: Sequence[LabelFacts], measured: Sequence[dict[str, float]]) -> CaseResult:
        """Of a case's label sets and of what its students measure, both seed by seed."""

        def over_seeds(key: str) -> Accuracy:
            return Accuracy.of([values[key] for values in measured])

        experts = [each.expert_accuracy for each in facts if each.expert_accuracy is not None]
        return cls(
            case=case,
            accuracy=over_seeds("accuracy"),
            val_accuracy=over_seeds("val_accuracy"),
            class_accuracy=over_seeds("class_accuracy") if case.edit.measured_class is not None else None,
            label_bytes=round(float(np.mean([each.label_bytes for each in facts]))),
            image_bytes=round(float(np.mean([each.image_bytes for each in facts]))),
            num_classes=facts[0].num_classes,
            entropy=float(np.mean([each.entropy for each in facts])),
            expert_accuracy=float(np.mean(experts)) if experts else None,
            labels=tuple(str(each.folder) for each in facts),
        )

    @property
    def data_bytes(self) -> int:
        """Of images and labels on disk."""
        return self.image_bytes + self.label_bytes

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "case": self.case.params, "labels": list(self.labels)}
