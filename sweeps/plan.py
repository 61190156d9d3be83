"""What a sweep would store, relabel and train, before anything starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from lpqld.images import ImageMemory, choose_memory, count_source, free_device_bytes, free_host_bytes
from lpqld.labels import shard_size
from lpqld.models import build, choose_device, teacher_files
from lpqld.training import SoftTargets, Student, kl_divergence
from sweeps.config import SweepConfig
from sweeps.jobs import SynthesisPlan, open_images, plan_synthesis, seconds_per_call, trajectory

_MEASURE_SECONDS = 1.5
_JPEG_BYTES_PER_PIXEL = 0.3  # ImageNet photos at 224 px, quality 75 or so
_PNG_BYTES_PER_PIXEL = 2.9  # of recovered images, which are full of detail
_FIXED_BYTES = 1400  # manifest and header of a small set
_TYPICAL_BITS = 4
_WORKING_BYTES = 600_000_000  # a process with torch in it
_ID_AND_VALUE_BYTES = 4


@dataclass(frozen=True)
class BudgetPlan:
    """What a budget buys: at the smallest and the largest k of the search, the labels kept and their prune ratio."""

    budget: int
    compression: float
    labels_to_images: float
    k: tuple[int, int]
    bytes_per_label: tuple[float, float]
    prune_ratio: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, rates in views per second on `device`, times in hours of one such device.

    `num_masters` counts label sets of all views: one of each epoch of the experts where trials choose that, one of
    random real images beside distilled ones, none where labels are given. `master_bytes` and `relabel_hours` are of all
    of them, `num_shards` of each. `pixel_bytes` are those of the decoded images, `image_memory` is where they would lie
    on this machine (see `memory.choose_memory`), `worker_memory` what a relabel worker takes beside them. `recover` is
    None where images are not recovered.
    """

    name: str
    num_classes: int
    num_images: int
    image_size: int
    image_bytes: int
    image_bytes_are_estimated: bool
    views_per_image: int
    num_views: int
    bytes_per_label: int
    all_label_bytes: int
    labels_to_images: float
    num_masters: int
    master_bytes: int
    num_shards: int
    pixel_bytes: int
    image_memory: ImageMemory
    worker_memory: int
    budgets: tuple[BudgetPlan, ...]
    num_trainings: int
    device: str
    relabel_rate: float
    train_rate: float
    relabel_hours: float
    train_hours: float
    recover: SynthesisPlan | None

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def make_plan(config: SweepConfig, *, measure_seconds: float = _MEASURE_SECONDS) -> Plan:
    """Plan a sweep; without images, from what the preset says of them, with image bytes estimated.

    Rates are measured on this machine's device with untrained networks for about `measure_seconds` each.
    """
    estimated = config.images.source is None or config.recovers
    training = count_source(config.images.real) if config.recovers and config.images.real is not None else None
    if estimated:
        num_classes = training[0] if training is not None else config.num_classes or 10
        size, num_images = config.images.size or 32, num_classes * (config.images.ipc or 10)
        bytes_per_pixel = _PNG_BYTES_PER_PIXEL if config.recovers else _JPEG_BYTES_PER_PIXEL
        image_bytes = round(num_images * size * size * bytes_per_pixel)
    else:
        images = open_images(config.images)
        num_classes, num_images, size, image_bytes = (
            images.num_classes,
            images.num_images,
            images.size,
            images.image_bytes,
        )
    num_views = num_images * config.views_per_image
    all_bytes = num_views * num_classes * 2
    kept = min(config.relabel.k, num_classes) if config.relabel.k else None
    num_masters, num_members = _masters_and_members(config)
    master_bytes = num_masters * (all_bytes if kept is None else num_views * kept * _ID_AND_VALUE_BYTES)
    budgets = tuple(
        _plan_budget(config, budget, all_bytes, image_bytes, num_images, num_views, num_classes)
        for budget in config.search.budget_bytes(all_bytes)
    )
    device, pixel_bytes = choose_device(), num_images * 3 * size * size
    relabel_rate, train_rate = _measure(config, num_classes, size, device, measure_seconds)
    recover = None
    if config.recovers:
        num_training = None if training is None else training[1]
        recover = plan_synthesis(config, num_classes, num_training, size, relabel_rate, device, measure_seconds)
    baselines = 2 + 2 * len(budgets) if config.confirm.baselines else 0
    num_trainings = config.search.trials * len(budgets) + config.confirm.seeds * (len(budgets) + baselines)
    shard_views = shard_size(num_views, config.relabel.batch_size, kept or num_classes, config.relabel.shard_views)
    return Plan(
        name=config.name,
        num_classes=num_classes,
        num_images=num_images,
        image_size=size,
        image_bytes=image_bytes,
        image_bytes_are_estimated=estimated,
        views_per_image=config.views_per_image,
        num_views=num_views,
        bytes_per_label=num_classes * 2,
        all_label_bytes=all_bytes,
        labels_to_images=all_bytes / image_bytes,
        num_masters=num_masters,
        master_bytes=master_bytes,
        num_shards=-(-num_views // shard_views),
        pixel_bytes=pixel_bytes,
        image_memory=choose_memory(pixel_bytes, device_bytes=free_device_bytes(device), host_bytes=free_host_bytes()),
        worker_memory=_WORKING_BYTES
        + shard_views * (kept * 8 if kept else num_classes * 4)
        + config.relabel.batch_size * 3 * size * size * 4 * 4,
        budgets=budgets,
        num_trainings=num_trainings,
        device=str(device),
        relabel_rate=relabel_rate,
        train_rate=train_rate,
        relabel_hours=num_masters * num_members * num_views / relabel_rate / 3600,
        train_hours=num_trainings * num_images * config.student.epochs / train_rate / 3600,
        recover=recover,
    )


def _masters_and_members(config: SweepConfig) -> tuple[int, int]:
    """How often all views are labeled, and by how many teachers each time."""
    teacher, sets = config.teacher, 1 if config.images.real is None else 2
    if config.relabel.labels is not None:
        return 0, 1
    if teacher.experts is not None:
        by_epoch = trajectory(teacher.experts)
        return sets - 1 + (len(by_epoch) if config.searches_epoch else 1), len(next(iter(by_epoch.values())))
    return sets, 1 if teacher.source is None else len(teacher_files(teacher.source))


def _plan_budget(
    config: SweepConfig,
    budget: int,
    all_bytes: int,
    image_bytes: int,
    num_images: int,
    num_views: int,
    num_classes: int,
) -> BudgetPlan:
    sizes = sorted(min(k, num_classes) for k in config.search.k)
    ends = (sizes[0], sizes[-1])

    def bytes_per_label(k: int) -> float:
        id_bits = 0 if k == num_classes else (num_classes - 1).bit_length()
        return k * (id_bits + _TYPICAL_BITS) / 8 + 1

    per_label = (bytes_per_label(ends[0]), bytes_per_label(ends[1]))

    def prune_ratio(label_bytes: float) -> float:
        affordable = max(0.0, (budget - _FIXED_BYTES) / label_bytes)
        return 1 - min(affordable, num_views) / num_views

    return BudgetPlan(
        budget=budget,
        compression=all_bytes / budget,
        labels_to_images=budget / image_bytes,
        k=ends,
        bytes_per_label=per_label,
        prune_ratio=(prune_ratio(per_label[0]), prune_ratio(per_label[1])),
    )


def _measure(
    config: SweepConfig, num_classes: int, size: int, device: torch.device, seconds: float
) -> tuple[float, float]:
    """Views per second of the teacher's forward pass and of a student's training step."""
    teacher_size = config.teacher.input_size or size
    teacher = build(config.teacher.architecture or "convnet", num_classes).to(device).eval()
    batch = config.relabel.batch_size
    views = torch.rand(batch, 3, teacher_size, teacher_size, device=device)

    def label() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            teacher(views)

    relabel_rate = batch / seconds_per_call(label, device, seconds)
    recipe = config.student
    student = Student(recipe, num_classes, seed=0).to(device).train()
    inputs = torch.rand(recipe.batch_size, 3, size, size, device=device)
    ids = torch.zeros(recipe.batch_size, 1, dtype=torch.long, device=device)
    targets = SoftTargets(ids, torch.ones(recipe.batch_size, 1, device=device))

    def step() -> None:
        kl_divergence(student(inputs), targets, 1.0).backward()

    return relabel_rate, recipe.batch_size / seconds_per_call(step, device, seconds)
