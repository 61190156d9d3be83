"""Images of other projects, read, named, checked with a teacher and written as a set of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lpqld.errors import ConfigError
from lpqld.images import ImageSet, read_names, timm_names
from lpqld.interop.array_images import TensorImages, read_tensors
from lpqld.interop.images import check_class_order, named, of_tensors
from lpqld.interop.images import soft_labels as as_label_set
from lpqld.models import TeacherSource, Triple
from lpqld.storage import location


@dataclass(frozen=True)
class Naming:
    """How the classes of images are called, and who is asked whether they are in order.

    Attributes:
        class_names: a file that names them in order, or a label list of timm's; None keeps their names.
        teacher: whose accuracy on the images is measured, and whose order of classes must be theirs.
    """

    class_names: str | None = None
    teacher: TeacherSource | None = None

    def apply(self, images: ImageSet) -> tuple[ImageSet, float | None]:
        """The images with these names, and the teacher's accuracy on them, if there is a teacher.

        Raises:
            ConfigError, DataError: there is no such list or teacher, or it does not fit; classes are in another order.
        """
        if self.class_names is not None:
            file = location(self.class_names)
            names = read_names(file, images.class_names) if file.is_file() else timm_names(self.class_names)
            images = named(images, names)
        if self.teacher is None:
            return images, None
        return images, check_class_order(images, self.teacher.load(images.class_names))


_AS_THEY_ARE = Naming()


@dataclass(frozen=True)
class ImportedImages:
    """An image set that was written.

    Attributes:
        images: as they were written.
        teacher_accuracy: of the teacher that was asked, if one was.
        arrays: what they were read from, where that was arrays.
    """

    images: ImageSet
    teacher_accuracy: float | None
    arrays: TensorImages | None = None


def import_images(source: str, out: str, *, size: int | None = None, naming: Naming = _AS_THEY_ARE) -> ImportedImages:
    """Write images that `ImageSet.open` reads as a set of ours.

    Args:
        source: a path or a URI of images.
        out: a folder to write, a path or a URI.
        size: side in pixels that they are brought to; default: their own.
        naming: of their classes.

    Raises:
        ConfigError, DataError: as `ImageSet.open`, `Naming.apply` and `ImageSet.write` do.
    """
    images, accuracy = naming.apply(ImageSet.open(source, size=size))
    return ImportedImages(_written(images, out), accuracy)


def import_arrays(
    source: str,
    out: str,
    *,
    images_key: str | None = None,
    labels_key: str | None = None,
    image_mean: Triple | None = None,
    image_std: Triple | None = None,
    soft_labels: str | None = None,
    naming: Naming = _AS_THEY_ARE,
) -> ImportedImages:
    """Write images that are arrays of a file as a set of ours, and their soft labels as a label set.

    Args:
        source: the file, as `read_tensors` takes it.
        out: a folder to write, a path or a URI.
        images_key, labels_key: names of the arrays, where they are not plain.
        image_mean, image_std: what was subtracted from the pixels and what they were divided by; default: a guess.
        soft_labels: a folder for the label set; None leaves soft labels out.
        naming: of their classes.

    Raises:
        ConfigError, DataError: as `read_tensors`, `Naming.apply` and `ImageSet.write` do; soft labels are asked for and
            there are none.
    """
    arrays = read_tensors(Path(source), images=images_key, labels=labels_key, mean=image_mean, std=image_std)
    images, accuracy = naming.apply(of_tensors(arrays, source))
    if arrays.soft is None and soft_labels is not None:
        raise ConfigError(f"`soft_labels={soft_labels}`: the labels of {source} are classes")
    written = _written(images, out)
    if arrays.soft is not None and soft_labels is not None:
        as_label_set(written, arrays.soft).write(soft_labels)
    return ImportedImages(written, accuracy, arrays)


def _written(images: ImageSet, out: str) -> ImageSet:
    images.write(out)
    return ImageSet.open(out)
