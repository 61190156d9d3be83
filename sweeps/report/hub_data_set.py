"""A label set for people: a Hugging Face data set of plain columns, with its images and a card that says what it is."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.byte_sizes import format_bytes
from lpqld.images import ImageSet
from lpqld.labels import Labels, LabelSet, LabelSpec
from lpqld.storage import Location, write_atomically
from sweeps.report.result import Point, SweepResult

LABELS_FOLDER, IMAGES_FOLDER, CARD_FILE, FIGURE_FILE = "labels", "images", "README.md", "front.png"
_ROWS = 2**16  # of a file


@dataclass(frozen=True)
class Origin:
    """The sweep that a label set comes from.

    Attributes:
        result: of the sweep.
        point: the label set's.
        figure: its front, where there is one.
    """

    result: SweepResult
    point: Point
    figure: Path | None = None


def write_data_set(
    label_set: LabelSet,
    images: ImageSet,
    target: Location,
    *,
    origin: Origin | None = None,
    with_images: bool = False,
    licence: str = "unknown",
) -> None:
    """Write labels as Parquet that `datasets.load_dataset` reads offline, every view's parameters spelled out.

    Columns of `labels`: image_id, view; ids and values (largest first); crop, partner_crop, box and cutout as shares of
    the side (top, left, height, width); flip, partner_id, partner_flip, lam, color.

    Args:
        label_set: verified.
        images: those of the labels.
        target: a new or empty folder.
        origin: what the card tells of a sweep.
        with_images: write the images beside the labels, as lossless PNG.
        licence: of the card, an identifier that Hugging Face knows.
    """
    labels = label_set.labels
    count = labels.spec.num_views
    starts = range(0, count, _ROWS)
    for index, start in enumerate(starts):
        table = _table(labels, images, np.arange(start, min(start + _ROWS, count)))
        sink = io.BytesIO()
        metadata = {"lpqld": json.dumps(labels.spec.to_json())}
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        name = f"train-{index:05d}-of-{len(starts):05d}.parquet"
        write_atomically(target / LABELS_FOLDER / name, sink.getvalue())
    bound = labels.images_of(images)
    if with_images:
        bound.write(target / IMAGES_FOLDER)
    figure = origin.figure if origin is not None else None
    if figure is not None and figure.is_file():
        write_atomically(target / FIGURE_FILE, figure.read_bytes())
    text = card(label_set, bound, origin, with_images=with_images, licence=licence)
    write_atomically(target / CARD_FILE, text.encode())


def _table(labels: Labels, images: ImageSet, positions: np.ndarray) -> pa.Table:
    views = labels.views_of(images)
    params, (_, numbers) = views.draw(positions), views.rows_and_numbers(positions)
    logits = labels.take(positions)

    def lists(array: np.ndarray) -> pa.FixedSizeListArray:
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])

    return pa.table(
        {
            "image_id": views.images.ids[params.rows],
            "view": numbers,
            "ids": lists(logits.ids),
            "values": lists(logits.values),
            "crop": lists(params.crop),
            "flip": params.flip,
            "partner_id": views.images.ids[params.partner],
            "partner_crop": lists(params.partner_crop),
            "partner_flip": params.partner_flip,
            "lam": params.lam,
            "box": lists(params.box),
            "cutout": lists(params.cutout),
            "color": lists(params.color),
        }
    )


def card(label_set: LabelSet, images: ImageSet, origin: Origin | None, *, with_images: bool, licence: str) -> str:
    """The data-set card: what it is, how it was made, numbers, how to read it."""
    spec, num_bytes = label_set.spec, label_set.num_bytes["total"]
    name = "Soft labels" if origin is None else f"Soft labels of {origin.result.experiment}"
    parts = [_front_matter(name, with_images, licence), f"# {name}", _what(spec, num_bytes)]
    if origin is not None:
        parts += [_numbers(origin, num_bytes)]
        parts += [f"![Accuracy against label bytes]({FIGURE_FILE})"] if origin.figure is not None else []
    parts += [_how(spec, images), _use(with_images), _LICENCE.format(licence=licence), _CITATION]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, with_images: bool, licence: str) -> str:
    lines = ["---", f"license: {json.dumps(licence)}", f"pretty_name: {json.dumps(name)}", "tags:"]
    lines += [f"- {tag}" for tag in ("dataset-distillation", "soft-labels", "knowledge-distillation", "lpqld")]
    lines += ["configs:", "- config_name: labels", f"  data_files: {LABELS_FOLDER}/*.parquet", "  default: true"]
    lines += ["- config_name: images", f"  data_files: {IMAGES_FOLDER}/*.parquet"] if with_images else []
    return "\n".join([*lines, "---"])


def _what(spec: LabelSpec, num_bytes: int) -> str:
    kept = spec.codec.kept(spec.num_classes)
    classes = "all classes" if kept == spec.num_classes else f"the {kept} largest"
    return (
        f"A teacher's logits on {spec.num_views:,} augmented views of {spec.num_images:,} images of "
        f"{spec.num_classes:,} classes at {spec.images.size} px: {classes} of each view, {spec.prune_ratio:.2%} of the "
        f"views pruned. As a label set of `lpqld` they take {format_bytes(num_bytes)}; here they are plain columns."
    )


def _numbers(origin: Origin, num_bytes: int) -> str:
    point, result = origin.point, origin.result
    teacher = result.teacher.get("accuracy")
    rows = [
        ("label bytes (label set)", format_bytes(num_bytes)),
        ("image bytes", format_bytes(point.image_bytes)),
        ("all labels, fp16", format_bytes(result.all_label_bytes)),
        ("times smaller", f"{result.all_label_bytes / max(1, num_bytes):.0f}"),
        (
            "student's test accuracy",
            f"{point.accuracy.mean:.2%} ± {point.accuracy.std:.2%} over {point.accuracy.n} seeds",
        ),
        ("student's validation accuracy", f"{point.val_accuracy:.2%}"),
        ("teacher's test accuracy", "not known" if teacher is None else f"{teacher:.2%}"),
    ]
    return "\n".join(["## Numbers", "", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _how(spec: LabelSpec, images: ImageSet) -> str:
    recipe = spec.recipe or {}
    student = ", ".join(f"{key} {recipe[key]}" for key in _RECIPE if key in recipe) or "not said"
    codec = {key: value for key, value in spec.codec.to_json().items() if len(str(value)) < _LONG}
    return "\n".join(
        [
            "## How it was made",
            "",
            f"- images: {images.num_images} of {images.num_classes} classes, fingerprint `{spec.images.fingerprint}`",
            f"- teacher: {spec.teacher.architecture}, fingerprint `{spec.teacher.fingerprint}`",
            f"- views: {spec.views.origin}: `{json.dumps(spec.view_rule.to_json())}`",
            f"- codec: `{json.dumps(codec)}`",
            f"- student: {student}",
        ]
    )


def _use(with_images: bool) -> str:
    lines = ["from datasets import load_dataset", 'labels = load_dataset("PATH", "labels", split="train")']
    lines += ['images = load_dataset("PATH", "images", split="train")'] if with_images else []
    return "\n".join(["## How to read it", "", "```python", *lines, "```", "", _COLUMNS])


_RECIPE = ("architecture", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "temperature", "ca")
_LONG = 64  # of a codec's tables, which say nothing to a reader
_COLUMNS = (
    "`values` are logits of the classes `ids`, largest first; other classes have none. A view is: crop `crop` (top, "
    "left, height, width in shares of the side) of image `image_id`, resized to the full side, flipped if `flip`; then "
    "`box` is taken from the partner's view (`partner_id`, `partner_crop`, `partner_flip`), or the two are mixed by "
    "`lam`; then `cutout` is filled with `color`."
)
_LICENCE = """## Licence

{licence}. Soft labels are made from images and a teacher: both have licences of their own."""
_CITATION = """## Citation

The method is LPQLD (arXiv 2604.18135).

```bibtex
@misc{lpqld,
  eprint = {2604.18135},
  archivePrefix = {arXiv},
}
```"""
