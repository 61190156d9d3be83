"""One label of each image: as numbers that an edit may change, and as the label set that students see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Codec
from lpqld.images import ImageSet
from lpqld.labels import UNKNOWN_TEACHER, EncodedLabels, Labels, TeacherRef, whole_image_labels
from lpqld.storage import fingerprint


@dataclass(frozen=True)
class CaseLabels:
    """What the students of a case see.

    Attributes:
        images: those of the labels.
        encoded: one label of each.
        weights: of each label in the loss, [N]; None: 1.
    """

    images: ImageSet
    encoded: EncodedLabels
    weights: NDArray[np.float64] | None = None

    @cached_property
    def decoded(self) -> Labels:
        """The labels as a reader of their files gets them."""
        return self.encoded.decode()

    @cached_property
    def digest(self) -> str:
        """Of all bytes of the label set, which its manifest has the digests of."""
        return fingerprint(self.encoded.manifest.to_bytes())


@dataclass(frozen=True)
class ImageLabels:
    """Labels that are not encoded yet; an edit makes others of them.

    Attributes:
        images: N images of C classes.
        logits: of each image, float [N, C].
        teacher: who gave these labels; unknown as soon as an edit changes what the teacher's label says.
        codec: how the labels will be encoded; None for every logit in fp16.
        weights: of each label in the loss, [N]; None: 1.
    """

    images: ImageSet
    logits: NDArray[np.floating]
    teacher: TeacherRef = UNKNOWN_TEACHER
    codec: Codec | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def classes(self) -> NDArray[np.integer]:
        """The class of each image, [N]."""
        return self.images.labels.numpy()

    def with_logits(self, logits: NDArray[np.floating], weights: NDArray[np.float64] | None = None) -> ImageLabels:
        """Other labels of the same images, that no teacher gives."""
        return replace(self, logits=logits, weights=weights, teacher=UNKNOWN_TEACHER)

    def encoded(self) -> CaseLabels:
        """The labels as a label set."""
        encoded = whole_image_labels(self.images, self.logits, codec=self.codec, teacher=self.teacher)
        return CaseLabels(self.images, encoded, self.weights)
