"""How a label set names the images and the teacher that it was made with, in as few bytes as tell them from others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.models import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, TeacherSpec, Triple
from lpqld.storage import Fields, Packed, canonical_json, fingerprint

MAX_IMAGE_ID = 2**31 - 1
_MAX_SIDE = 2**16
_MAX_IMAGE_BYTES = 2**53
_NAMES_DIGITS = 16
_LONGEST_SOURCE = 4096


@dataclass(frozen=True)
class ImagesRef:
    """The images that labels were made for: enough to find them again and to refuse any others.

    Attributes:
        source, resize: where they were read, and how they were brought to size; for people.
        fingerprint: of pixels, labels, class names in order (`ImageSet.fingerprint`).
        size: side in pixels.
        image_bytes: of the encoded images.
        images_per_class: how many each class has, one number where all have as many; None where `labels` says it.
        labels: the class of each image, where they are not in class order.
        ids: zigzag steps from each image's id to the next one's, the first from 0; None for ids 0 ... N - 1.
        skipped: where the images stand that could not be read and were left out; None where there are none.
    """

    source: str
    fingerprint: str
    size: int
    image_bytes: int
    images_per_class: int | Packed | None
    labels: Packed | None = None
    ids: Packed | None = None
    resize: str | None = None
    skipped: tuple[str, ...] | None = None

    @classmethod
    def of(cls, images: ImageSet) -> ImagesRef:
        """Describe `images`.

        Raises:
            ConfigError: there are none, or an id is beyond 2**31 - 1.
        """
        if images.num_images == 0 or not 0 <= images.ids.min() <= images.ids.max() <= MAX_IMAGE_ID:
            raise ConfigError(f"{images.source}: expected at least one image, and image ids from 0 to {MAX_IMAGE_ID}")
        labels = images.labels.numpy()
        in_order = _in_class_order(labels)
        return cls(
            source=_printable(images.source),
            fingerprint=images.fingerprint,
            size=images.size,
            image_bytes=images.image_bytes,
            images_per_class=_pack_counts(np.bincount(labels, minlength=images.num_classes)) if in_order else None,
            labels=None if in_order else Packed.of(labels),
            ids=_pack_ids(images.ids),
            resize=images.resize,
            skipped=tuple(_printable(image.origin) for image in images.skipped) or None,
        )

    def image_ids(self, num_images: int) -> NDArray[np.int64]:
        """The id of each image [N]."""
        return np.arange(num_images) if self.ids is None else _unpack_ids(self.ids, num_images)

    def image_classes(self, num_images: int, num_classes: int) -> NDArray[np.int32]:
        """The class of each image [N]."""
        if self.labels is not None:
            return self.labels.unpack(num_images).astype(np.int32)
        counts = self.images_per_class
        repeats = counts.unpack(num_classes) if isinstance(counts, Packed) else np.full(num_classes, counts)
        return np.repeat(np.arange(num_classes, dtype=np.int32), repeats)

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is None is left out."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        values["skipped"] = self.skipped and list(self.skipped)
        return without_none(
            {key: value.to_json() if isinstance(value, Packed) else value for key, value in values.items()}
        )

    @classmethod
    def from_json(cls, fields: Fields, num_images: int, num_classes: int) -> ImagesRef:
        """The inverse of `to_json`.

        Raises:
            DataError: a field is missing, unknown, out of range, or at odds with another.
        """
        has_labels = "labels" in fields
        reference = cls(
            source=fields.text("source"),
            fingerprint=fields.digest("fingerprint"),
            size=fields.integer("size", 1, _MAX_SIDE),
            image_bytes=fields.integer("image_bytes", 0, _MAX_IMAGE_BYTES),
            images_per_class=None if has_labels else _read_counts(fields, num_images, num_classes),
            labels=_read_labels(fields, num_images, num_classes) if has_labels else None,
            ids=_read_ids(fields, num_images) if "ids" in fields else None,
            resize=fields.text("resize") if "resize" in fields else None,
            skipped=fields.texts("skipped") if "skipped" in fields else None,
        )
        fields.finish()
        return reference


@dataclass(frozen=True)
class TeacherRef:
    """The teacher that made labels: what it expects of its input, and fingerprints.

    Attributes:
        fingerprint: of its weights, outputs and configuration (`Teacher.fingerprint`).
        class_names: the first 16 digits of the fingerprint of its class names, or None where it has none.
    """

    architecture: str
    fingerprint: str
    input_size: int | None
    mean: Triple
    std: Triple
    interpolation: str
    class_names: str | None

    @classmethod
    def of(cls, spec: TeacherSpec, digest: str) -> TeacherRef:
        """Describe a teacher by its spec and fingerprint."""
        names = spec.class_names and fingerprint(canonical_json(list(spec.class_names)))[:_NAMES_DIGITS]
        return cls(spec.architecture, digest, spec.input_size, spec.mean, spec.std, spec.interpolation, names or None)

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is None is left out."""
        return without_none(asdict(self) | {"mean": list(self.mean), "std": list(self.std)})

    @classmethod
    def from_json(cls, fields: Fields) -> TeacherRef:
        """The inverse of `to_json`.

        Raises:
            DataError: a field is missing, unknown or out of range.
        """
        mean, std = fields.numbers("mean", 3), fields.numbers("std", 3)
        interpolation = fields.text("interpolation")
        if min(std) <= 0:
            raise DataError(f"{fields.path('std')} must be above 0, found {list(std)}")
        if interpolation not in INTERPOLATIONS:
            raise DataError(f"{fields.path('interpolation')} must be one of {', '.join(INTERPOLATIONS)}")
        reference = cls(
            architecture=fields.text("architecture"),
            fingerprint=fields.digest("fingerprint"),
            input_size=fields.integer("input_size", 1, _MAX_SIDE) if "input_size" in fields else None,
            mean=(mean[0], mean[1], mean[2]),
            std=(std[0], std[1], std[2]),
            interpolation=interpolation,
            class_names=fields.digest("class_names", _NAMES_DIGITS) if "class_names" in fields else None,
        )
        fields.finish()
        return reference


def without_none(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of `document` that have a value: a manifest leaves the others out."""
    return {key: value for key, value in document.items() if value is not None}


def _in_class_order(labels: NDArray[np.int64]) -> bool:
    return bool((np.diff(labels) >= 0).all())


def _pack_counts(counts: NDArray[np.int64]) -> int | Packed:
    return int(counts[0]) if (counts == counts[0]).all() else Packed.of(counts)


def _read_counts(fields: Fields, num_images: int, num_classes: int) -> int | Packed:
    name = "images_per_class"
    if fields.is_integer(name):
        count = fields.integer(name, 1, num_images)
        if count * num_classes != num_images:
            raise DataError(f"{fields.path(name)}: {count} images of {num_classes} classes are not {num_images}")
        return count
    packed = fields.packed(name, num_classes)
    counts = packed.unpack(num_classes)
    if counts.sum() != num_images or _pack_counts(counts) != packed:
        raise DataError(f"{fields.path(name)} must hold numbers that differ and add up to {num_images}")
    return packed


def _read_labels(fields: Fields, num_images: int, num_classes: int) -> Packed:
    packed = fields.packed("labels", num_images)
    labels = packed.unpack(num_images)
    if labels.max() >= num_classes or _in_class_order(labels):
        raise DataError(f"{fields.path('labels')} must be below {num_classes}, and are only for images in mixed order")
    return packed


def _pack_ids(ids: NDArray[np.int64]) -> Packed | None:
    # Ids of a sample lie close to each other, class after class: steps need fewer bits than the ids themselves.
    if np.array_equal(ids, np.arange(len(ids))):
        return None
    steps = np.diff(ids, prepend=0)
    return Packed.of(steps << 1 ^ steps >> 63)


def _unpack_ids(packed: Packed, num_images: int) -> NDArray[np.int64]:
    zigzag = packed.unpack(num_images)
    return np.cumsum(zigzag >> 1 ^ -(zigzag & 1))


def _read_ids(fields: Fields, num_images: int) -> Packed:
    packed = fields.packed("ids", num_images)
    ids = _unpack_ids(packed, num_images)
    if ids.min() < 0 or ids.max() > MAX_IMAGE_ID or len(np.unique(ids)) != num_images:
        raise DataError(f"{fields.path('ids')} must be different numbers from 0 to {MAX_IMAGE_ID}")
    if _pack_ids(ids) is None:
        raise DataError(f"{fields.path('ids')} must be left out where they are 0, 1, 2 and so on")
    return packed


def _printable(text: str) -> str:
    # A file name may hold anything; manifests, messages and terminals get what can be printed of it.
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST_SOURCE] or "?"


# Of labels that came without a word about who made them.
UNKNOWN_TEACHER = TeacherRef("unknown", "0" * 64, None, IMAGENET_MEAN, IMAGENET_STD, "bilinear", None)
