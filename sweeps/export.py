"""Export: label sets of a sweep, or any other, as they are, as a Hugging Face data set, or as the reference's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.interop import export_fkd
from lpqld.labels import LabelSet
from lpqld.storage import Location, RemotePath, location, read_json, write_atomically
from lpqld.views import Views
from sweeps.config import SweepConfig
from sweeps.jobs import images_source, open_images
from sweeps.report import FIGURE_FILE, Origin, Point, SweepResult, write_data_set
from sweeps.search import CONFIG_FILE, REPORT_FOLDER

FORMATS = ("lpqld", "parquet", "fkd")


@dataclass(frozen=True)
class ExportOptions:
    """What some formats can do otherwise.

    Attributes:
        layout: of fkd, see `fkd_export.export_fkd`.
        with_images: of parquet: write the images too.
        licence: of parquet's card.
    """

    layout: str = "batches"
    with_images: bool = False
    licence: str = "unknown"


DEFAULT_OPTIONS = ExportOptions()


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
    options: ExportOptions = DEFAULT_OPTIONS,
) -> list[Written]:
    """Write label sets: one into `out` itself, a path or a URI, several into one sub-folder each.

    Args:
        options: what some formats can do otherwise.

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
            config = SweepConfig.model_validate(
                read_json(sweep_folder / CONFIG_FILE, "restore it, or export without the images")
            )
            return open_images(config.images, source=images_source(config, sweep_folder))

        origin = Origin(result, point, root / result.experiment / REPORT_FOLDER / FIGURE_FILE)
        written.append(_write(label_set, images, target, export_format, options, origin))
    return written


def export_labels(
    source: str | os.PathLike[str] | RemotePath,
    images: Callable[[], ImageSet],
    out: str | os.PathLike[str] | RemotePath,
    export_format: str,
    options: ExportOptions = DEFAULT_OPTIONS,
) -> Written:
    """Write a label set that is in no sweep; arguments and errors as in `export`.

    Args:
        images: opens those that the labels were made for, where they are needed.
    """
    return _write(LabelSet.open(source), images, _checked(out, export_format), export_format, options)


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
    target: Location,
    export_format: str,
    options: ExportOptions,
    origin: Origin | None = None,
) -> Written:
    label_set.verify()
    if export_format == "lpqld":
        _copy(label_set, target)
    elif export_format == "parquet":
        write_data_set(
            label_set, images(), target, origin=origin, with_images=options.with_images, licence=options.licence
        )
    else:
        labels = label_set.labels
        found = None if labels.spec.table is not None else labels.views_of(images())
        views = found if isinstance(found, Views) else None
        return Written(target, export_fkd(labels, views, target, options.layout).notes)
    return Written(target)


def _copy(label_set: LabelSet, target: Location) -> None:
    """Copy a label set, its manifest last."""
    for name in label_set.files:
        write_atomically(target / name, (label_set.folder / name).read_bytes())
