"""What a sweep would store, relabel and train, before anything starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from lpqld.codecs import Dense
from lpqld.images import ImageMemory, choose_memory, count_source, free_device_bytes, free_host_bytes
from lpqld.labels import shard_size
from lpqld.models import choose_device, teacher_files
from sweeps.config import SweepConfig
from sweeps.jobs import (
    SynthesisPlan,
    open_images,
    plan_synthesis,
    relabelled_views_per_second,
    trained_views_per_second,
    trajectory,
)

_MEASURE_SECONDS = 1.5
_JPEG_BYTES_PER_PIXEL = 0.3  # ImageNet photos at 224 px, quality 75 or so
_PNG_BYTES_PER_PIXEL = 2.9  # of recovered images, which are full of detail
_FIXED_BYTES = 1400  # manifest and header of a small set
_TYPICAL_BITS = 4
_WORKING_BYTES = 600_000_000  # a process with torch in it
_ID_AND_VALUE_BYTES = 4


@dataclass(frozen=True)
class PlannedImages:
    """The images to be labelled; their bytes are those on disk."""

    num_classes: int
    num_images: int
    image_size: int
    image_bytes: int
    image_bytes_are_estimated: bool


@dataclass(frozen=True)
class PlannedLabels:
    """The labels of all views, in bytes on disk.

    `num_masters` counts label sets of all views: one of each epoch of the experts where trials choose that, one of
    random real images beside distilled ones, none where labels are given. `master_bytes` are of all of them,
    `num_shards` of each.
    """

    views_per_image: int
    num_views: int
    bytes_per_label: int
    all_label_bytes: int
    labels_to_images: float
    num_masters: int
    master_bytes: int
    num_shards: int


@dataclass(frozen=True)
class PlannedMemory:
    """Bytes in memory.

    `pixel_bytes` are those of the decoded images, `image_memory` is where they would lie on this machine (see
    `memory.choose_memory`), `worker_memory` what a relabel worker takes beside them.
    """

    pixel_bytes: int
    image_memory: ImageMemory
    worker_memory: int


@dataclass(frozen=True)
class PlannedHours:
    """Rates in views per second on `device`, times in hours of one such device; `relabel_hours` are of all masters."""

    num_trainings: int
    device: str
    relabel_rate: float
    train_rate: float
    relabel_hours: float
    train_hours: float


@dataclass(frozen=True)
class PlannedBudget:
    """What a budget buys: at the smallest and the largest k of the search, the labels kept and their prune ratio."""

    budget: int
    compression: float
    labels_to_images: float
    k: tuple[int, int]
    bytes_per_label: tuple[float, float]
    prune_ratio: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """A whole sweep; `synthesis` is None where images are not recovered."""

    name: str
    images: PlannedImages
    labels: PlannedLabels
    memory: PlannedMemory
    budgets: tuple[PlannedBudget, ...]
    hours: PlannedHours
    synthesis: SynthesisPlan | None

    def to_json(self) -> dict[str, object]:
        """JSON values: the fields of all parts side by side, but for the budgets and `recover`."""
        return {
            "name": self.name,
            **asdict(self.images),
            **asdict(self.labels),
            **asdict(self.memory),
            "budgets": [asdict(budget) for budget in self.budgets],
            **asdict(self.hours),
            "recover": None if self.synthesis is None else asdict(self.synthesis),
        }


def make_plan(config: SweepConfig, *, measure_seconds: float = _MEASURE_SECONDS) -> Plan:
    """Plan a sweep; without images, from what the preset says of them, with image bytes estimated.

    Rates are measured on this machine's device with untrained networks for about `measure_seconds` each.
    """
    training = count_source(config.images.real) if config.recovers and config.images.real is not None else None
    images = _plan_images(config, None if training is None else training[0])
    labels = _plan_labels(config, images)
    budget_bytes = config.search.budget_bytes(labels.all_label_bytes)
    budgets = tuple(_plan_budget(config, budget, images, labels) for budget in budget_bytes)
    device = choose_device()
    hours = _plan_hours(config, images, labels, len(budgets), device, measure_seconds)
    synthesis = None
    if config.recovers:
        synthesis = plan_synthesis(
            config,
            images.num_classes,
            None if training is None else training[1],
            images.image_size,
            hours.relabel_rate,
            device,
            measure_seconds,
        )
    memory = _plan_memory(config, images, labels, device)
    return Plan(config.name, images, labels, memory, budgets, hours, synthesis)


def _plan_images(config: SweepConfig, num_training_classes: int | None) -> PlannedImages:
    """Of images that are there, else of those that the configuration expects."""
    if config.images.source is not None and not config.recovers:
        opened = open_images(config.images)
        return PlannedImages(opened.num_classes, opened.num_images, opened.size, opened.image_bytes, False)
    num_classes = num_training_classes if num_training_classes is not None else config.num_classes or 10
    size = config.images.size or 32
    num_images = num_classes * (config.images.ipc or 10)
    bytes_per_pixel = _PNG_BYTES_PER_PIXEL if config.recovers else _JPEG_BYTES_PER_PIXEL
    return PlannedImages(num_classes, num_images, size, round(num_images * size * size * bytes_per_pixel), True)


def _plan_labels(config: SweepConfig, images: PlannedImages) -> PlannedLabels:
    num_views = images.num_images * config.views_per_image
    bytes_per_label = round(Dense().bytes_per_view(images.num_classes))
    all_label_bytes = num_views * bytes_per_label
    kept_classes = _kept_classes(config, images)
    num_masters, _ = _masters_and_members(config)
    label_bytes = bytes_per_label if kept_classes is None else kept_classes * _ID_AND_VALUE_BYTES
    return PlannedLabels(
        views_per_image=config.views_per_image,
        num_views=num_views,
        bytes_per_label=bytes_per_label,
        all_label_bytes=all_label_bytes,
        labels_to_images=all_label_bytes / images.image_bytes,
        num_masters=num_masters,
        master_bytes=num_masters * num_views * label_bytes,
        num_shards=-(-num_views // _shard_views(config, images, num_views)),
    )


def _kept_classes(config: SweepConfig, images: PlannedImages) -> int | None:
    """k of the master label set; None where it holds all classes."""
    return min(config.relabel.k, images.num_classes) if config.relabel.k else None


def _shard_views(config: SweepConfig, images: PlannedImages, num_views: int) -> int:
    kept_classes = _kept_classes(config, images) or images.num_classes
    return shard_size(num_views, config.relabel.batch_size, kept_classes, config.relabel.shard_views)


def _masters_and_members(config: SweepConfig) -> tuple[int, int]:
    """How often all views are labeled, and by how many teachers each time."""
    teacher, sets = config.teacher, 1 if config.images.real is None else 2
    if config.relabel.labels is not None:
        return 0, 1
    if teacher.experts is not None:
        by_epoch = trajectory(teacher.experts)
        return sets - 1 + (len(by_epoch) if config.searches_epoch else 1), len(next(iter(by_epoch.values())))
    return sets, 1 if teacher.source is None else len(teacher_files(teacher.source))


def _plan_budget(config: SweepConfig, budget: int, images: PlannedImages, labels: PlannedLabels) -> PlannedBudget:
    k = sorted(min(k, images.num_classes) for k in config.search.k)
    ends = (k[0], k[-1])
    fewest_bytes, most_bytes = (_label_bytes(each, images.num_classes) for each in ends)

    def prune_ratio(label_bytes: float) -> float:
        affordable = max(0.0, (budget - _FIXED_BYTES) / label_bytes)
        return 1 - min(affordable, labels.num_views) / labels.num_views

    return PlannedBudget(
        budget=budget,
        compression=labels.all_label_bytes / budget,
        labels_to_images=budget / images.image_bytes,
        k=ends,
        bytes_per_label=(fewest_bytes, most_bytes),
        prune_ratio=(prune_ratio(fewest_bytes), prune_ratio(most_bytes)),
    )


def _label_bytes(k: int, num_classes: int) -> float:
    """Of a label with k ids, each in full, k values of `_TYPICAL_BITS` bits, and a byte on top.

    Codecs take less (`Codec.bytes_per_view`): what a plan says of a budget, the sweep keeps.
    """
    id_bits = 0 if k == num_classes else (num_classes - 1).bit_length()
    return k * (id_bits + _TYPICAL_BITS) / 8 + 1


def _plan_hours(
    config: SweepConfig,
    images: PlannedImages,
    labels: PlannedLabels,
    num_budgets: int,
    device: torch.device,
    measure_seconds: float,
) -> PlannedHours:
    shape = images.num_classes, images.image_size
    relabel_rate = relabelled_views_per_second(config, *shape, device, measure_seconds)
    train_rate = trained_views_per_second(config.student, *shape, device, measure_seconds)
    num_masters, num_members = _masters_and_members(config)
    baselines = 2 + 2 * num_budgets if config.confirm.baselines else 0
    num_trainings = config.search.trials * num_budgets + config.confirm.seeds * (num_budgets + baselines)
    return PlannedHours(
        num_trainings=num_trainings,
        device=str(device),
        relabel_rate=relabel_rate,
        train_rate=train_rate,
        relabel_hours=num_masters * num_members * labels.num_views / relabel_rate / 3600,
        train_hours=num_trainings * images.num_images * config.student.epochs / train_rate / 3600,
    )


def _plan_memory(
    config: SweepConfig, images: PlannedImages, labels: PlannedLabels, device: torch.device
) -> PlannedMemory:
    kept_classes = _kept_classes(config, images)
    pixels = 3 * images.image_size * images.image_size
    pixel_bytes = images.num_images * pixels
    label_bytes = kept_classes * 8 if kept_classes else images.num_classes * 4
    return PlannedMemory(
        pixel_bytes=pixel_bytes,
        image_memory=choose_memory(pixel_bytes, device_bytes=free_device_bytes(device), host_bytes=free_host_bytes()),
        worker_memory=_WORKING_BYTES
        + _shard_views(config, images, labels.num_views) * label_bytes
        + config.relabel.batch_size * pixels * 4 * 4,
    )
