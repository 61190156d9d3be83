"""What a case does to its labels: the base of all edits, and the two that several studies share.

An edit is a frozen dataclass. Its name and fields identify it: results, MLflow and the names of label sets have both,
so a published edit keeps them. An edit that one study alone makes is defined in that study's module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lpqld.codecs import Hard as HardCodec
from lpqld.labels import UNKNOWN_TEACHER
from sweeps.studies.case_labels import ImageLabels


class Edit(ABC):
    """What is done to the labels of a case; edits of equal fields are equal.

    Attributes:
        name: in tables, figures and results.
    """

    name: ClassVar[str]

    @abstractmethod
    def changed(self, labels: ImageLabels) -> ImageLabels:
        """The labels after the edit; `labels` stay as they are."""

    @property
    def value(self) -> float | None:
        """The number that says how far the edit goes, such as a temperature or a rank; None where it has none."""
        return None

    @property
    def measured_class(self) -> int | None:
        """The class whose own test accuracy is measured too, from 0."""
        return None

    @property
    def unchanged(self) -> Edit:
        """What is done to the labels that a table compares these with."""
        return Soft()

    @property
    def params(self) -> dict[str, Any]:
        """What differs from a plain soft label, by name."""
        settings = {"edit": self.name, "value": self.value, "removed": self.measured_class}
        return {name: value for name, value in settings.items() if value is not None}

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name} {self.value:g}"


@dataclass(frozen=True)
class Soft(Edit):
    """The labels as the experts give them."""

    name: ClassVar[str] = "soft"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """The same labels."""
        return labels

    @property
    def params(self) -> dict[str, Any]:
        """None: this is the plain soft label."""
        return {}


@dataclass(frozen=True)
class Hard(Edit):
    """The class of each image instead of its soft label."""

    name: ClassVar[str] = "hard"

    def changed(self, labels: ImageLabels) -> ImageLabels:
        """Labels that are stored as class numbers."""
        return replace(labels, codec=HardCodec(), teacher=UNKNOWN_TEACHER)
