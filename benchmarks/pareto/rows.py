"""The rows of a table: which labels, and how students are trained on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_sets import DataSet

from sweeps.config import PaperConfig
from sweeps.reference import reference_bytes

BATCH = 100  # views of a batch in the reference's files
FACTORS = (40, 80, 200)  # how many times smaller than all labels in the reference's files
_PAPER_K = {10: 100, 40: 100, 80: 50, 200: 10}  # for 1,000 classes


@dataclass(frozen=True)
class Row:
    """A way to store labels and to train on them.

    Attributes:
        name: of the row and of its file.
        labels: options of `lpqld compress` on all labels; none for all of them as they are.
        train: options of `lpqld train`.
        source: what is compressed.
        images: what students see.
        reference_bytes: of the same labels in the reference's files, where it could store them.
        group: of rows that are read together.
    """

    name: str
    labels: tuple[str, ...]
    train: tuple[str, ...]
    source: str = "all"
    images: str = "images"
    reference_bytes: int | None = None
    group: str = "table"
    only_small: bool = field(default=False)  # left out on many classes, where trainings take long


def rows_of(data: DataSet) -> list[Row]:
    """All rows of a data set."""
    return [*_baselines(data), *_lpld(data), *_paper(data), *_ours(data)]


def all_bytes(data: DataSet) -> int:
    """Of all labels in fp16 in the reference's files."""
    return reference_bytes(num_views(data), data.num_classes // 2, BATCH)


def num_views(data: DataSet) -> int:
    """Of all images in all epochs."""
    return data.num_classes * data.ipc * data.epochs


def _constant(temperature: str) -> tuple[str, ...]:
    return "--temperature", temperature, "--ca", "off"


def _baselines(data: DataSet) -> list[Row]:
    every = [
        Row(f"all, T = {temperature}", (), _constant(temperature), reference_bytes=all_bytes(data), only_small=small)
        for temperature, small in (("20", False), ("8", True), ("4", False), ("2", True), ("1", True))
    ]
    hard = Row("hard labels", ("--codec", "hard"), _constant("1"))
    real = Row("random real images, one soft label each", (), _constant("1"), source="one", images=data.train)
    return [hard, *every, real]


def _lpld(data: DataSet) -> list[Row]:
    rows = []
    for factor in (10, 40):
        kept = num_views(data) // factor
        rows.append(
            Row(
                f"LPLD x{factor}",
                ("--codec", "dense", "--bits", "16", *_prune(data, kept)),
                _constant("20"),
                reference_bytes=reference_bytes(kept, data.num_classes // 2, BATCH),
                only_small=factor == 10,
            )
        )
    return rows


def paper_views(data: DataSet, factor: int) -> tuple[int, int]:
    """k, and the views that fill the ratio in the reference's files."""
    k = PaperConfig(k=_PAPER_K[factor]).k_for(data.num_classes)
    budget = all_bytes(data) // factor
    views = num_views(data)
    while reference_bytes(views, k, BATCH) > budget:
        views -= max(1, (reference_bytes(views, k, BATCH) - budget) // (4 * k + 15 + 3300 // BATCH + 1))
    return k, views


def _paper(data: DataSet) -> list[Row]:
    rows = []
    for factor in FACTORS:
        k, views = paper_views(data, factor)
        rows.append(
            Row(
                f"LPQLD x{factor}, the paper's setting",
                ("--codec", "topk", "--k", str(k), "--bits", "16", *_prune(data, views)),
                ("--temperature", "20:2:step", "--ca", "paper"),
                reference_bytes=reference_bytes(views, k, BATCH),
            )
        )
    return rows


def _ours(data: DataSet) -> list[Row]:
    """At the bytes of the paper's files, at a quarter of them."""
    k = min(data.num_classes, 10)
    rows = []
    for factor in FACTORS:
        budget = all_bytes(data) // factor
        for share, name in ((1, "the paper's bytes"), (4, "a quarter of them")):
            rows.append(
                Row(
                    f"ours x{factor}, {name}",
                    ("--codec", "topk", "--k", str(k), "--bits", "4", "--budget", str(budget // share)),
                    ("--temperature", "20:2:step", "--ca", "fit"),
                )
            )
    return rows


def _prune(data: DataSet, kept: int) -> tuple[str, ...]:
    return "--prune-ratio", f"{1 - kept / num_views(data):.9f}"
