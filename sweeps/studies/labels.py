"""The labels of a study's cases: experts' logits of whole images, and what a case does to them."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from lpqld.codecs import Codec, Hard, TopK
from lpqld.errors import DataError
from lpqld.images import ImageSet
from lpqld.labels import UNKNOWN_TEACHER, EncodedLabels, Labels, TeacherRef, whole_image_labels
from lpqld.models import accuracy, load_teacher, predict
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint, write_atomically
from sweeps.cluster import as_completed, num_gpus, use_assigned_resources
from sweeps.jobs import Trajectory
from sweeps.studies.cases import Case
from sweeps.studies.label_edits import smoothed, softened, swapped, swapped_top, without_class

_BATCH = 256
_AS_SAID = ("none", "top-k", "argmax", "without-images")


@dataclass(frozen=True)
class Said:
    """What one expert says.

    Attributes:
        logits: of whole images, float32 [N, C], of each sample of images.
        accuracy: on the validation images, a fraction.
    """

    logits: tuple[NDArray[np.float32], ...]
    accuracy: float


def said_by_all(
    experts: Trajectory,
    samples: Sequence[ImageSet],
    validation: ImageSet,
    folder: Path,
    progress: Progress,
) -> dict[int, list[Said]]:
    """What every expert says of every sample of images, by epoch; kept in `folder`, and found there again."""
    shared = ray.put(samples), ray.put(validation)
    task = ray.remote(_say).options(num_cpus=1, num_gpus=1 if num_gpus() else 0)
    facts = canonical_json([[images.fingerprint for images in samples], validation.fingerprint])
    places = {path: folder / f"{fingerprint(path.read_bytes(), facts)[:16]}.npz"
              for paths in experts.values() for path in paths}  # fmt: skip
    found = {path: said for path, place in places.items() if (said := _read(place)) is not None}
    running = {task.remote(*shared, path, place): path for path, place in places.items() if path not in found}
    for done, (reference, _) in enumerate(as_completed(running), start=1):
        path = running[reference]
        if (said := _read(places[path])) is None:
            raise DataError(f"{places[path]}: what {path} says of the images was just written and cannot be read")
        found[path] = said
        progress.progress("experts' labels", done, len(running))
    return {epoch: [found[path] for path in paths] for epoch, paths in experts.items()}


def _say(samples: Sequence[ImageSet], validation: ImageSet, path: Path, place: Path) -> None:
    device = use_assigned_resources(cpus=1)
    teacher = load_teacher(path, image_class_names=samples[0].class_names).to(device)

    def logits(images: ImageSet) -> NDArray[np.float32]:
        parts = [batch.float().cpu() for batch in predict(teacher, images, _BATCH)]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    sink = io.BytesIO()
    with torch.inference_mode():
        said = [logits(images) for images in samples]
    np.savez(sink, *said, accuracy=accuracy(teacher, validation))
    write_atomically(place, sink.getvalue())


def _read(place: Path) -> Said | None:
    """None where it is not there, or not whole: it is asked again."""
    try:
        with np.load(place) as found:
            return Said(tuple(found[name] for name in found if name != "accuracy"), float(found["accuracy"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


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


def labels_of(
    case: Case, images: ImageSet, logits: NDArray[np.float32] | None, teacher: TeacherRef = UNKNOWN_TEACHER
) -> CaseLabels:
    """The labels of a case.

    Args:
        case: what is done.
        images: `case.ipc` of each class.
        logits: of the experts, their mean, [N, C]; None where the case needs none.
        teacher: the experts, of whom labels that were changed are no longer.
    """
    classes, weights, codec = images.labels.numpy(), None, None
    if logits is None:
        logits = np.zeros((images.num_images, images.num_classes), dtype=np.float32)
    codecs: dict[str, Codec] = {"hard": Hard(), "argmax": TopK(1)}
    value = case.value or 0.0
    if case.edit == "top-k":
        codec = TopK(int(value))
    elif case.edit == "softened":
        logits = softened(logits, value)
    elif case.edit == "swapped":
        logits = swapped(logits, int(value))
    elif case.edit == "swapped-top":
        logits = swapped_top(logits, int(value))
    elif case.edit == "smoothed":
        logits = smoothed(classes, images.num_classes, value)
    elif case.edit == "without-images":
        left = np.flatnonzero(classes != case.removed)
        images, logits = images.take(left), logits[left]
    elif case.edit in ("without-mass", "without-mass-renormalised"):
        assert case.removed is not None
        logits, mass = without_class(logits, classes, case.removed)
        weights = mass if case.edit == "without-mass" else None
    encoded = whole_image_labels(
        images,
        logits,
        codec=codec or codecs.get(case.edit),
        teacher=teacher if case.edit in _AS_SAID else UNKNOWN_TEACHER,
    )
    return CaseLabels(images, encoded, weights)
