"""A case of a study: labels of some images, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.images import ImageSet
from lpqld.labels import UNKNOWN_TEACHER, TeacherRef
from lpqld.storage import canonical_json, fingerprint
from sweeps.studies.case_labels import CaseLabels, ImageLabels
from sweeps.studies.edits import Edit, Soft


@dataclass(frozen=True)
class Case:
    """What a study trains students on: images, whose labels they have, and what is done to these labels.

    A case is to a study what a trial is to a sweep: one setting and its students of several seeds. Nothing searches
    cases; a study lists all of them beforehand, so that they differ in what it asks about alone. MLflow keeps each as
    a trial.

    Attributes:
        ipc: images of each class.
        epoch: of the experts that give the labels; None for hard ones.
        members: experts whose logits are averaged.
        edit: what is done to the labels.
    """

    ipc: int
    epoch: int | None = None
    members: int = 1
    edit: Edit = field(default_factory=Soft)

    @property
    def params(self) -> dict[str, Any]:
        """What differs from a plain soft label, by name."""
        params: dict[str, Any] = {"ipc": self.ipc}
        if self.epoch is not None:
            params["epoch"] = self.epoch
        if self.members != 1:
            params["members"] = self.members
        return {**params, **self.edit.params}

    @property
    def case_id(self) -> str:
        """What tells it from other cases, 12 hexadecimal digits."""
        return fingerprint(canonical_json(self.params))[:12]

    def shown(self, name: str) -> object:
        """What a table has for one of `params`, also where this case does not differ in it; None for nothing."""
        settings = {"epoch": self.epoch, "members": self.members, "edit": self.edit.name, **self.params}
        return settings.get(name)

    def labels(
        self, images: ImageSet, logits: NDArray[np.float32] | None, teacher: TeacherRef = UNKNOWN_TEACHER
    ) -> CaseLabels:
        """The labels of this case.

        Args:
            images: `ipc` of each class.
            logits: of the experts, their mean, [N, C]; None where the case needs none.
            teacher: the experts.
        """
        if logits is None:
            logits = np.zeros((images.num_images, images.num_classes), dtype=np.float32)
        return self.edit.changed(ImageLabels(images, logits, teacher)).encoded()

    def __str__(self) -> str:
        shown = dict(self.params)
        if self.edit.measured_class is not None:  # the control is told from the others as well
            shown["edit"] = self.edit.name
        return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                         for name, value in shown.items())  # fmt: skip
