"""Label folders of other projects as label sets, with a doubt where the classes seem to be in another order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lpqld.errors import few
from lpqld.images import ImageSet
from lpqld.interop.fkd_folder import SAMPLER_SEED
from lpqld.interop.fkd_import import Imported, import_fkd
from lpqld.progress import SILENT, Progress
from lpqld.storage import location

# Of few classes a guess is right often; of more, labels that agree less than so many times a guess are doubtful.
_FEW_CLASSES, _GUESSES = 20, 10


@dataclass(frozen=True)
class ImportedLabels:
    """A label set that was written.

    Attributes:
        labels: the set, and what it was made from.
        doubt: why its classes may be in another order than the images'; None where nothing says so.
    """

    labels: Imported
    doubt: str | None


def import_labels(
    source: str,
    images: str,
    out: str,
    *,
    size: int | None = None,
    seed: int = SAMPLER_SEED,
    progress: Progress = SILENT,
) -> ImportedLabels:
    """Write a label folder of another project as a label set; see `import_fkd`.

    Args:
        source: a local folder.
        images: those that the labels were made for, as `ImageSet.open` takes them.
        out: a new or empty folder, a path or a URI.
        size: side in pixels of the images that the labels were made for; default: the images' own.
        seed: of the sampler, where the folder does not say the order.
        progress: told of batches done.

    Raises:
        ConfigError, DataError: as `ImageSet.open` and `import_fkd` do.
    """
    opened = ImageSet.open(images, size=size)
    imported = import_fkd(Path(source), opened, location(out), seed=seed, progress=progress)
    return ImportedLabels(imported, _doubt(imported.agreement, opened))


def _doubt(agreement: float, images: ImageSet) -> str | None:
    if images.num_classes <= _FEW_CLASSES or agreement >= _GUESSES / images.num_classes:
        return None
    return (
        f"the largest logit is of the image's class, or of that of the image mixed into it, in {agreement:.1%} of the "
        f"labels: little more than a guess. Are classes in the order of the teacher's? Expected "
        f"{few(images.class_names, 3)}"
    )
