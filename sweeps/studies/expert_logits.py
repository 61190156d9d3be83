"""What the experts of a study say: their logits of whole images, and how accurate they are."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from lpqld.errors import DataError
from lpqld.images import ImageSet
from lpqld.models import accuracy, load_teacher, predict
from lpqld.progress import Progress
from lpqld.storage import canonical_json, fingerprint, write_atomically
from sweeps.cluster import as_completed, num_gpus, use_assigned_resources
from sweeps.jobs import Trajectory

_BATCH = 256


@dataclass(frozen=True)
class ExpertLogits:
    """What one expert says.

    Attributes:
        logits: of whole images, float32 [N, C], of each sample of images.
        accuracy: on the validation images, a fraction.
    """

    logits: tuple[NDArray[np.float32], ...]
    accuracy: float


def ask_experts(
    experts: Trajectory,
    samples: Sequence[ImageSet],
    validation: ImageSet,
    folder: Path,
    progress: Progress,
) -> dict[int, list[ExpertLogits]]:
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


def _read(place: Path) -> ExpertLogits | None:
    """None where it is not there, or not whole: it is asked again."""
    try:
        with np.load(place) as found:
            return ExpertLogits(tuple(found[name] for name in found if name != "accuracy"), float(found["accuracy"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
