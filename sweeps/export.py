"""Export: label sets of a sweep, or any other, as they are, as plain Parquet, or as the reference's files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.errors import ConfigError, DataError
from lpqld.fkd_export import export_fkd
from lpqld.images import ImageSet
from lpqld.labels import LabelSet
from lpqld.location import Location, RemotePath, location
from lpqld.sizes import format_bytes
from lpqld.store import write_atomically
from lpqld.views import Views
from sweeps.config import SweepConfig
from sweeps.data import open_images
from sweeps.folder import CONFIG_FILE
from sweeps.result import Point, SweepResult
from sweeps.sweep_images import images_source

FORMATS = ("lpqld", "parquet", "fkd")


def choose_points(result: SweepResult, budget: int | None, everything: bool) -> list[Point]:
    """The best point by validation accuracy under `budget`, or the whole front.

    Raises:
        ConfigError: no label set fits the budget; the smallest is said.
    """
    if everything:
        return [point for point in result.points if point.on_front]
    fitting = [point for point in result.points if budget is None or point.label_bytes <= budget]
    if not fitting:
        smallest = min(point.label_bytes for point in result.points)
        raise ConfigError(
            f"no label set of {result.experiment} fits {format_bytes(budget or 0)}; the smallest has {smallest} bytes"
        )
    return [max(fitting, key=lambda point: (point.val_accuracy, -point.label_bytes))]


def export(
    result: SweepResult,
    points: Sequence[Point],
    out: str | os.PathLike[str] | RemotePath,
    export_format: str,
    root: Path,
    layout: str = "batches",
) -> list[Written]:
    """Write label sets: one into `out` itself, a path or a URI, several into one sub-folder each.

    Args:
        layout: of fkd.

    Raises:
        ConfigError: `out` is not empty or cannot be written, or the format is unknown or cannot hold the labels.
        DataError: a label set of the sweep is gone or damaged.
    """
    folder, written = _checked(out, export_format), []
    for point in points:
        target = folder if len(points) == 1 else folder / point.trial_id
        source = root / result.experiment / "labels" / point.trial_id
        if not source.is_dir():
            raise DataError(f"{source}: the label set of {point.trial_id} is gone; run the sweep again")
        label_set = LabelSet.open(source)

        def images() -> ImageSet:
            sweep_folder = root / result.experiment
            config = SweepConfig.model_validate(json.loads((sweep_folder / CONFIG_FILE).read_text()))
            return open_images(config.images, source=images_source(config, sweep_folder))

        about = {"accuracy": asdict(point.accuracy), "trial_id": point.trial_id}
        written.append(_write(label_set, images, about, target, export_format, layout))
    return written


def export_labels(
    source: str | os.PathLike[str] | RemotePath,
    images: Callable[[], ImageSet],
    out: str | os.PathLike[str] | RemotePath,
    export_format: str,
    layout: str = "batches",
) -> Written:
    """Write a label set that is in no sweep; arguments and errors as in `export`.

    Args:
        images: opens those that the labels were made for, where they are needed.
    """
    return _write(LabelSet.open(source), images, {}, _checked(out, export_format), export_format, layout)


@dataclass(frozen=True)
class Written:
    """An exported label set, and what its format does not hold as the label set did."""

    folder: Location
    notes: tuple[str, ...] = ()


def _checked(out: str | os.PathLike[str] | RemotePath, export_format: str) -> Location:
    """Where to write, which is new or empty, in a format that there is."""
    if export_format not in FORMATS:
        raise ConfigError(f"format {export_format!r} is not known; choose one of {', '.join(FORMATS)}")
    folder = location(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} exists and is not empty; choose a new folder")
    return folder


def _write(
    label_set: LabelSet,
    images: Callable[[], ImageSet],
    about: dict[str, Any],
    target: Location,
    export_format: str,
    layout: str,
) -> Written:
    label_set.verify()
    if export_format == "lpqld":
        _copy(label_set, target)
    elif export_format == "parquet":
        write_parquet(label_set, images(), about, target)
    else:
        labels = label_set.labels
        found = None if labels.spec.table is not None else labels.views_of(images())
        views = found if isinstance(found, Views) else None
        return Written(target, export_fkd(labels, views, target, layout).notes)
    return Written(target)


def _copy(label_set: LabelSet, target: Location) -> None:
    """Copy a label set, its manifest last."""
    for name in label_set.files:
        write_atomically(target / name, (label_set.folder / name).read_bytes())


def write_parquet(label_set: LabelSet, images: ImageSet, about: dict[str, Any], target: Location) -> None:
    """Labels as plain columns that any Parquet reader understands, with every view's parameters spelled out.

    Columns: image_id, view; ids and values (largest first); crop, partner_crop, box and cutout as fractions (top, left,
    height, width); flip, partner_id, partner_flip, lam, color.
    """
    labels = label_set.labels
    views = labels.views_of(images)
    positions = np.arange(labels.spec.num_views)
    params, (_, numbers) = views.draw(positions), views.rows_and_numbers(positions)

    def lists(array: np.ndarray) -> pa.FixedSizeListArray:
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])

    table = pa.table(
        {
            "image_id": views.images.ids[params.rows],
            "view": numbers,
            "ids": lists(labels.logits.ids),
            "values": lists(labels.logits.values),
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
    about = {"spec": labels.spec.to_json(), **about}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"lpqld": json.dumps(about)}), sink, compression="zstd")
    write_atomically(target / "labels.parquet", sink.getvalue())
