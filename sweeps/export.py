"""Export: a sweep's best label sets, as they are or as plain Parquet."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.labels import LabelSet
from lpqld.location import Location, RemotePath, location
from lpqld.sizes import format_bytes
from lpqld.store import write_atomically
from sweeps.config import SweepConfig
from sweeps.data import open_images
from sweeps.folder import CONFIG_FILE
from sweeps.result import Point, SweepResult
from sweeps.sweep_images import images_source

FORMATS = ("lpqld", "parquet")


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
) -> list[Location]:
    """Write label sets: one into `out` itself, a path or a URI, several into one sub-folder each.

    Raises:
        ConfigError: `out` is not empty or cannot be written, or the format is unknown.
        DataError: a label set of the sweep is gone or damaged.
    """
    if export_format not in FORMATS:
        raise ConfigError(f"format {export_format!r} is not known; choose one of {', '.join(FORMATS)}")
    folder = location(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} exists and is not empty; choose a new folder")
    targets: list[Location] = []
    for point in points:
        target = folder if len(points) == 1 else folder / point.trial_id
        source = root / result.experiment / "labels" / point.trial_id
        if not source.is_dir():
            raise DataError(f"{source}: the label set of {point.trial_id} is gone; run the sweep again")
        label_set = LabelSet.open(source)
        label_set.verify()
        if export_format == "lpqld":
            _copy(label_set, target)
        else:
            sweep_folder = root / result.experiment
            config = SweepConfig.model_validate(json.loads((sweep_folder / CONFIG_FILE).read_text()))
            images = open_images(config.images, source=images_source(config, sweep_folder))
            write_parquet(label_set, images, point, target)
        targets.append(target)
    return targets


def _copy(label_set: LabelSet, target: Location) -> None:
    """Copy a label set, its manifest last."""
    for name in label_set.files:
        write_atomically(target / name, (label_set.folder / name).read_bytes())


def write_parquet(label_set: LabelSet, images: ImageSet, point: Point, target: Location) -> None:
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
    about = {"spec": labels.spec.to_json(), "accuracy": asdict(point.accuracy), "trial_id": point.trial_id}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"lpqld": json.dumps(about)}), sink, compression="zstd")
    write_atomically(target / "labels.parquet", sink.getvalue())
