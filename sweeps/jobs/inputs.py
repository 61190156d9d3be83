"""Open what a configuration names: images, validation and test images, the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageMemory, ImageSet
from lpqld.models import FitRecipe, Teacher, TeacherSource, fit_teacher, save_teacher
from lpqld.progress import Progress
from lpqld.storage import canonical_json, write_atomically
from sweeps.config import EvalConfig, ImagesConfig, SweepConfig, TeacherConfig
from sweeps.jobs.expert_files import trajectory

_HALF = 0.5
TEACHER_FILE, _FITTED_TO_FILE = "teacher.safetensors", "teacher.json"


@dataclass(frozen=True)
class Evaluation:
    """Validation images select; test images are read once."""

    validation: ImageSet
    test: ImageSet


def open_images(
    config: ImagesConfig, source: str | None = None, skip_bad: bool = False, memory: ImageMemory | None = None
) -> ImageSet:
    """The images to label: `ipc` of every class of the source, or all of it where ipc is None.

    `skip_bad` and `memory` are those of `ImageSet.open`.
    """
    path = source or config.source
    assert path is not None, "require_data comes first"
    sample = None if config.ipc is None else (config.ipc, config.seed)
    return ImageSet.open(path, size=config.size, skip_bad=skip_bad, memory=memory, sample=sample)


def open_evaluation(config: EvalConfig, images: ImageSet) -> Evaluation:
    """Validation and test images at the image set's size and in its class order.

    Without `val`, a seeded stratified half of `source` is the validation set and the other half the test set.
    """
    assert config.source is not None, "require_data comes first"

    def opened(path: str) -> ImageSet:
        return ImageSet.open(
            path, size=images.size, class_names=images.class_names, eval_resize_ratio=config.resize_ratio
        )

    test = opened(config.source)
    if config.val is not None:
        return Evaluation(opened(config.val), test)
    validation, test = test.split(_HALF, config.seed)
    return Evaluation(validation, test)


def open_teacher_for(config: TeacherConfig, class_names: tuple[str, ...]) -> Teacher:
    """The teacher in a checkpoint, or in several, cut to some classes; of experts those of the chosen epoch.

    Raises:
        ConfigError: there are no experts, or none of that epoch.
    """
    if config.experts is None:
        assert config.source is not None, "require_data comes first"
        return _load(config, config.source, class_names)
    experts = trajectory(config.experts)
    epoch = config.epoch if isinstance(config.epoch, int) else max(experts)
    if epoch not in experts:
        raise ConfigError(
            f"teacher.epoch {epoch}: no expert was kept then; there are {', '.join(map(str, experts))}, or search"
        )
    return _load(config, experts[epoch], class_names)


def experts_by_epoch(config: TeacherConfig, class_names: tuple[str, ...]) -> dict[int, Teacher]:
    """The experts of every epoch, cut to some classes; several of an epoch are an ensemble."""
    assert config.experts is not None, "only experts have epochs"
    return {epoch: _load(config, paths, class_names) for epoch, paths in trajectory(config.experts).items()}


def _load(config: TeacherConfig, source: str | Sequence[Path], class_names: tuple[str, ...]) -> Teacher:
    given = config.model_dump(include={field.name for field in fields(TeacherSource)})
    return TeacherSource(**{**given, "source": source}).load(class_names)


def fit_or_open_teacher(
    config: SweepConfig,
    class_names: tuple[str, ...],
    folder: Path,
    device: torch.device,
    progress: Progress,
) -> Teacher:
    """The sweep's teacher of some classes: the checkpoint that is given, or one fitted once and kept in `folder`.

    What it was fitted to stands beside it, so that one of an earlier configuration is not taken for this one's.
    """
    teacher = config.teacher
    if teacher.source is not None or teacher.experts is not None:
        return open_teacher_for(teacher, class_names)
    path, about = folder / TEACHER_FILE, folder / _FITTED_TO_FILE
    source = teacher.fit_images or (config.images.real if config.recovers else config.images.source)
    assert source is not None
    fitted_to = canonical_json([teacher.model_dump(), source, config.images.size, config.seed, class_names])
    if not path.is_file() or not about.is_file() or about.read_bytes() != fitted_to:
        train = ImageSet.open(source, size=config.images.size, class_names=class_names)
        model, spec = fit_teacher(
            train,
            FitRecipe(teacher.architecture or "convnet", teacher.fit_epochs),
            seed=config.seed,
            device=device,
            on_epoch=lambda epoch: progress.progress("teacher", epoch.epoch, epoch.num_epochs),
        )
        save_teacher(path, model, spec)
        write_atomically(about, fitted_to)
    return open_teacher_for(TeacherConfig(source=str(path)), class_names)


def check_classes(images: ImageSet, evaluation: Evaluation) -> None:
    """Refuse evaluation images that lack a class of the images.

    Raises:
        DataError: naming the set and how many classes it has.
    """
    for what, split in (("validation", evaluation.validation), ("test", evaluation.test)):
        present = len(torch.unique(split.labels))
        if present < images.num_classes:
            raise DataError(
                f"{split.source}: {present} of the {images.num_classes} classes are in the {what} set; all are needed"
            )
