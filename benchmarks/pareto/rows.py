"""The rows of a table: which labels, and how students are trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from data_sets import REAL, TWO, VIEWS, DataSet

from sweeps.config import PaperConfig
from sweeps.search import reference_bytes

BATCH = 100  # views of a batch in the reference's files
FACTORS = (40, 80, 200)  # how many times smaller than all labels in the reference's files
_PAPER_K = {40: 100, 80: 50, 200: 10}  # for 1,000 classes
_PAPER_TRAIN = {"temperature": "20:2:step", "ca": "paper"}
_HARD, _HARD_TRAIN = "hard epochs", {"hard-every": "2"}
_MIDDLE = 80  # the factor of rows that other images or views are tried in
_SMALL = 40  # the factor at which architectures are compared and things changed one by one
_SMALL_PAPER = f"LPQLD x{_SMALL}, the paper's setting"
_ARCHITECTURES = ("convnet", "shufflenet_v2_x1_0", "cifar_resnet56")


@dataclass(frozen=True)
class Row:
    """A way to store labels and to train on them.

    Attributes:
        name: of the row and of its file.
        group: of rows that are read together: table, architectures, ablation, joint.
        labels: options of `lpqld compress` on all labels; none for all of them as they are.
        budget_of: a row whose labels' bytes on disk are the budget.
        total: bytes of labels and images together, the budget of labels being what images leave.
        train: options of `lpqld train`, over the data set's.
        source: what is compressed.
        images: what students see.
        reference_bytes: of the same labels in the reference's files, where it could store them.
    """

    name: str
    group: str = "table"
    labels: Mapping[str, str] = field(default_factory=dict)
    budget_of: str | None = None
    total: int | None = None
    train: Mapping[str, str] = field(default_factory=dict)
    source: str = "all"
    images: str = "images"
    reference_bytes: int | None = None


def rows_of(data: DataSet) -> list[Row]:
    """The rows of a data set, each after those that it needs."""
    table = [*_baselines(data), *_lpld(data), *_paper(data), *_ours(data)]
    rows = [*table, *_architectures(data), *_ablation(data), *_joint(data)]
    return [row for row in rows if not data.only or row.name in data.only]


def all_bytes(data: DataSet) -> int:
    """Of all labels in fp16 in the reference's files."""
    # Full labels have no ids, so that a class takes half of what `reference_bytes` counts for it.
    return reference_bytes(num_views(data), data.num_classes // 2, BATCH)


def num_views(data: DataSet) -> int:
    """Of all images in all epochs."""
    return data.num_classes * data.ipc * data.epochs


def paper_views(data: DataSet, factor: int) -> tuple[int, int]:
    """k, and the views that fill the ratio in the reference's files."""
    k, budget, views = PaperConfig(k=_PAPER_K[factor]).k_for(data.num_classes), all_bytes(data) // factor, 0
    step = num_views(data)
    while step:
        if views + step <= num_views(data) and reference_bytes(views + step, k, BATCH) <= budget:
            views += step
        else:
            step //= 2
    return k, views


def _constant(temperature: str) -> dict[str, str]:
    return {"temperature": temperature, "ca": "off"}


def _baselines(data: DataSet) -> list[Row]:
    return [
        # With crops and flips, as teachers are trained: mixed views have two classes.
        Row("hard labels", labels={"codec": "hard"}, train=_constant("1"), source="plain"),
        *(
            Row(f"all labels, T = {temperature}", train=_constant(temperature), reference_bytes=all_bytes(data))
            for temperature in data.temperatures
        ),
        *(
            [Row("all labels, T = 20, our views", train=_constant("20"), source=data.our_source)]
            if data.our_source != "all"
            else []
        ),
        Row("all labels, T = 20, our recipe", train={**data.our_train, **_constant("20")}),
        Row("all labels, our training", train=data.our_train, source=data.our_source),
        Row(f"all labels, our training, {_HARD}", train={**data.our_train, **_HARD_TRAIN}, source=data.our_source),
        Row("random real images, one soft label each", train=_constant("1"), source="one", images="real"),
        Row("random real images, all labels, T = 20", train=_constant("20"), source=REAL["all"], images="real"),
        Row(
            f"random real images, ours x{_MIDDLE}",
            labels=data.ours_at(all_bytes(data) // _MIDDLE),
            train=data.our_train,
            source=REAL[data.our_source],
            images="real",
        ),
    ]


def _lpld(data: DataSet) -> list[Row]:
    return [
        Row(
            f"LPLD x{factor}",
            labels={"codec": "dense", "bits": "16", "prune-ratio": _ratio(data, num_views(data) // factor)},
            train=_constant("20"),
            reference_bytes=reference_bytes(num_views(data) // factor, data.num_classes // 2, BATCH),
        )
        for factor in (10, 40)
    ]


def _paper(data: DataSet) -> list[Row]:
    trains = {"": _PAPER_TRAIN, ", our recipe": {**data.our_train, **_PAPER_TRAIN}}
    trains[f", our recipe, {_HARD}"] = {**trains[", our recipe"], **_HARD_TRAIN}
    return [
        Row(
            f"LPQLD x{factor}, the paper's setting{name}",
            labels=_paper_labels(data, factor),
            train=train,
            reference_bytes=reference_bytes(paper_views(data, factor)[1], paper_views(data, factor)[0], BATCH),
        )
        for factor in FACTORS
        for name, train in trains.items()
    ]


def _paper_labels(data: DataSet, factor: int) -> dict[str, str]:
    k, views = paper_views(data, factor)
    return {"codec": "topk", "k": str(k), "bits": "16", "prune-ratio": _ratio(data, views)}


def _ours(data: DataSet) -> list[Row]:
    """At the paper's parts of all labels' bytes, at a quarter of these, and at its labels' bytes in our format."""
    rows = []
    for factor in FACTORS:
        for smaller in (factor, 4 * factor):
            rows.append(
                Row(
                    f"ours x{smaller}",
                    labels=data.ours_at(all_bytes(data) // smaller),
                    train=data.our_train,
                    source=data.our_source,
                )
            )
        first = rows[-2]
        if factor == _MIDDLE and data.our_source != "all":
            rows.append(replace(first, name=f"{first.name}, {VIEWS['all'].mix} views", source="all"))
        if data.fit:
            rows.append(replace(first, name=f"{first.name}, two teachers", source=TWO))
        rows.append(
            Row(
                f"ours, the bytes of LPQLD x{factor}",
                labels=data.ours,
                budget_of=f"LPQLD x{factor}, the paper's setting",
                train=data.our_train,
                source=data.our_source,
            )
        )
        if data.few is not None:
            labels = {**data.ours, **data.few}
            rows.append(replace(rows[-1], name=f"{rows[-1].name}, top {labels['k']}", labels=labels))
        rows.append(replace(rows[-1], name=f"{rows[-1].name}, {_HARD}", train={**data.our_train, **_HARD_TRAIN}))
    return rows


def _architectures(data: DataSet) -> list[Row]:
    """The paper's labels and ours at equal bytes, those of the paper's in our format, for other students."""
    rows = []
    for name in _ARCHITECTURES:
        arch = {"arch": name}
        paper = {"labels": _paper_labels(data, _SMALL), "train": {**_PAPER_TRAIN, **arch}}
        rows.append(Row(f"{name}: all labels, T = 20", "architectures", train={**_constant("20"), **arch}))
        rows.append(Row(f"{name}: {_SMALL_PAPER}", "architectures", **paper))
        rows.append(_variant(data, f"{name}: ours, the bytes of LPQLD x{_SMALL}", train=arch, group="architectures"))
    return rows


def _variant(
    data: DataSet,
    name: str,
    labels: Mapping[str, str] | None = None,
    train: Mapping[str, str] | None = None,
    group: str = "ablation",
    source: str | None = None,
) -> Row:
    """Ours at the bytes of the paper's labels in our format, but for what is given."""
    whole = labels is not None and "prune-ratio" in labels
    return Row(
        name,
        group,
        labels={**data.ours, **(labels or {})},
        budget_of=None if whole else _SMALL_PAPER,
        train={**data.our_train, **(train or {})},
        source=source or data.our_source,
    )


def _ablation(data: DataSet) -> list[Row]:
    """Ours with one thing changed; the bytes stay, but where nothing is pruned."""
    fp16 = {"codec": "dense", "bits": "16", "k": ""}
    paper_labels = _paper_labels(data, _SMALL)
    kept = sorted({1, 2, 5, min(10, data.num_classes), min(50, data.num_classes)} - {int(data.ours["k"])})
    return [
        _variant(data, "ours"),
        _variant(data, "nothing pruned", {"prune-ratio": "0"}),
        _variant(data, "nothing quantized: all logits, fp16", fp16),
        _variant(data, "neither", {"prune-ratio": "0", **fp16}),
        *(
            _variant(data, f"{VIEWS[name].mix} views", source=name)
            for name in ("all", "mixup")
            if name != data.our_source
        ),
        *(_variant(data, f"constant T = {t}", train={"temperature": t}) for t in ("20", "4", "1")),
        *(_variant(data, f"CA {ca}", train={"ca": ca}) for ca in ("paper", "fit")),
        *(_variant(data, f"T 20:2:step, CA {ca}", train={**_PAPER_TRAIN, "ca": ca}) for ca in ("paper", "fit")),
        Row("the paper's labels, our training", "ablation", paper_labels, train=data.our_train),
        *(_variant(data, f"T {t}", train={"temperature": t}) for t in _SCHEDULES),
        *(
            _variant(data, f"{codec}, k = {k}", {"codec": codec, "k": str(k)})
            for codec in ("topk", "topk-min", "topk-share", "topk-tail")
            for k in (3,)
        ),
        *(_variant(data, f"topk-share, k = {k}", {"codec": "topk-share", "k": str(k)}) for k in (2, 5)),
        *(_variant(data, f"low rank, {rank} directions", {"codec": "lowrank", "k": str(rank)}) for rank in (3,)),
        *(_variant(data, f"{bits} bits", {"bits": str(bits)}) for bits in (2, 4, 5, 6, 8, 16)),
        *(_variant(data, f"k = {k}", {"k": str(k)}) for k in kept),
        *(_variant(data, f"views by {select}", {"select": select}) for select in _SELECT),
        *(_variant(data, f"batches of {size}, lr {lr}", train={"batch-size": size, "lr": lr}) for size, lr in _STEPS),
        *(_variant(data, f"{_HARD}, each {n}", train={"hard-every": n[0]}) for n in ("2nd", "4th")),
        *(_variant(data, f"weight decay {decay}", train={"weight-decay": decay}) for decay in ("0.01", "0.3")),
        *(_variant(data, f"average of weights, {decay}", train={"ema": decay}) for decay in ("0.99",)),
        *(_variant(data, f"{epochs} epochs of warm-up", train={"warmup-epochs": epochs}) for epochs in ("30",)),
    ]


def _joint(data: DataSet) -> list[Row]:
    """More images than another table has, and fewer bytes of labels."""
    if data.total is None:
        return []
    labels = {**data.ours, **data.more}
    return [
        Row(
            f"ours, {data.total:,} bytes of images and labels",
            "joint",
            labels,
            total=data.total,
            train=data.our_train,
            source=data.our_source,
        )
    ]


_SCHEDULES = ("20:2:step", "20:2:cosine", "2:20:step", "4:1:cosine")
_SELECT = ("confidence", "low-confidence", "entropy", "low-entropy", "classes")
_STEPS = (("100", "0.008"), ("20", "0.004"), ("5", "0.003"))


def _ratio(data: DataSet, kept: int) -> str:
    return f"{1 - kept / num_views(data):.9f}"
