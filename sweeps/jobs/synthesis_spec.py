"""What decides distilled images, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lpqld.distill import Batch, RecoverRecipe, batches_of
from lpqld.images import Encoding, TrainingImages
from lpqld.models import Teacher
from lpqld.storage import canonical_json, fingerprint

_VERSION = 1


@dataclass(frozen=True)
class SynthesisJob:
    """Images to be distilled; equal jobs make equal files.

    Attributes:
        teacher: with batch norm.
        images: its training images, which say classes and size.
        ipc: images of a class, 1 or more.
        encoding: of the finished images.
    """

    teacher: Teacher
    images: TrainingImages
    recipe: RecoverRecipe
    ipc: int
    encoding: Encoding = field(default_factory=Encoding)

    def to_json(self) -> dict[str, Any]:
        """All that decides the images."""
        return {
            "version": _VERSION,
            "recipe": self.recipe.to_json(),
            "ipc": self.ipc,
            "size": self.images.size,
            "encoding": str(self.encoding),
            "teacher": self.teacher.fingerprint,
            "training_images": self.images.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over `to_json`."""
        return fingerprint(canonical_json(self.to_json()))

    @cached_property
    def batches(self) -> list[Batch]:
        """In the order of their files."""
        return batches_of(self.images.num_classes, self.ipc, self.recipe)
