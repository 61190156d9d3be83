"""A sweep's report: the front as a table (terminal, Markdown, CSV, JSON) and its figures."""

from __future__ import annotations

import csv as csv_files
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from lpqld.byte_sizes import format_bytes
from lpqld.storage import write_atomically
from sweeps.report.front_figure import figure, interactive
from sweeps.report.palette import png
from sweeps.report.pareto import front
from sweeps.report.result import Point, SweepResult

__all__ = [
    "IMAGES_FILE",
    "REPORT_FILES",
    "TEMPERATURES_FILE",
    "csv",
    "figure",
    "interactive",
    "mark_front",
    "markdown",
    "table",
    "text_table",
    "write_report",
]

IMAGES_FILE = "images.png"  # distilled images beside real ones, where a sweep has both
TEMPERATURES_FILE = "temperatures.png"  # of the best choice's students, by budget
REPORT_FILES = ("front.csv", "front.json", "front.png", "front.html", "front.md")

_BLANK = "–"
_CONFIG_KEYS = ("prune_ratio", "k", "bits", "temperature", "ca", "lr", "num_views", "description")


def mark_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The same points with `on_front` set: no other point has fewer label bytes and more validation accuracy.

    Only points that were chosen for a budget take part; a baseline is never on the front and keeps no point off it.
    """
    competing = np.array([point.budget is not None for point in points], dtype=np.bool_)
    label_bytes = np.array([float(point.label_bytes) for point in points])
    val_accuracies = np.array([point.val_accuracy for point in points], dtype=np.float64)
    on_front = np.zeros(len(points), dtype=np.bool_)
    on_front[competing] = front(label_bytes[competing], val_accuracies[competing])
    return tuple(replace(point, on_front=bool(mark)) for point, mark in zip(points, on_front, strict=True))


def records(result: SweepResult) -> list[dict[str, Any]]:
    """One flat record a point with plain numbers (None where a point has none): what CSV and JSON files hold.

    The experts' `epoch`, the `codec` and `hard_every` are among them where trials chose them.
    """
    points = (*result.points, *result.baselines)
    chosen = [key for key in _CHOSEN_COLUMNS if any(key in point.config for point in points)]
    return [{**_record(result, point), **{key: point.config.get(key) for key in chosen}} for point in points]


def table(result: SweepResult) -> list[dict[str, str]]:
    """One row a point, as a person reads it; the keys are the column titles."""
    rows = records(result)
    chosen = {title: _setting(key) for key, title in _CHOSEN_COLUMNS.items() if rows and key in rows[0]}
    columns = {**_COLUMNS, **chosen}
    return [{title: write(record) for title, write in columns.items()} for record in rows]


def csv(result: SweepResult) -> str:
    """`records` as comma-separated values with a header line."""
    text = io.StringIO()
    rows = records(result)
    writer = csv_files.DictWriter(text, fieldnames=list(rows[0]) if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_table(result: SweepResult) -> Table:
    """The table for a terminal, baselines below a line, points on the front in bold."""
    shown = Table(title=f"{result.experiment}: {_summary(result)}", title_justify="left")
    rows = table(result)
    for title in rows[0] if rows else _COLUMNS:
        shown.add_column(title, justify="left" if title == "Name" else "right", overflow="fold")
    for index, (row, point) in enumerate(zip(rows, (*result.points, *result.baselines), strict=True)):
        last_point = index == len(result.points) - 1 and bool(result.baselines)
        # rich reads [brackets] as markup; names come from outside.
        cells = [cell.replace("[", "\\[") for cell in row.values()]
        shown.add_row(*cells, style="bold" if point.on_front else None, end_section=last_point)
    return shown


def markdown(result: SweepResult) -> str:
    """The report as Markdown: what was found, the table, and what its columns mean."""
    rows = table(result)
    titles = list(rows[0] if rows else _COLUMNS)
    lines = [f"# {result.experiment}", "", f"{_summary(result)}.", ""]
    lines += [f"| {' | '.join(titles)} |", f"|{'|'.join('---' if title == 'Name' else '---:' for title in titles)}|"]
    for row, point in zip(rows, (*result.points, *result.baselines), strict=True):
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row.values()]
        if point.on_front:
            cells[0] = f"**{cells[0]}**"
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Accuracy: percent of the test set, mean ± sample deviation over seeds. Validation selects, and decides which "
        "points are on the front. Smaller: how many times smaller than all labels at full precision. "
        "P: share of views not kept. T: temperature.",
    ]
    described = [(point.trial_id, str(point.config["description"])) for point in result.baselines if _described(point)]
    if described:
        lines += ["", *(f"- `{trial_id}`: {description}" for trial_id, description in described)]
    if result.notes:
        lines += ["", *(f"- {note}" for note in result.notes)]
    return "\n".join(lines) + "\n"


def write_report(result: SweepResult, folder: Path) -> None:
    """Write `REPORT_FILES` into `folder`, each whole or not at all; `front.html` works without a network."""
    document = {
        "experiment": result.experiment,
        "teacher_accuracy": _finite(result.teacher.get("accuracy")),
        "all_label_bytes": result.all_label_bytes,
        "points": records(result),
    }
    html = interactive(result).to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    contents = {
        "front.csv": csv(result).encode(),
        "front.json": (json.dumps(document, indent=2, default=str, allow_nan=False) + "\n").encode(),
        "front.png": png(figure(result)),
        "front.html": html.encode(),
        "front.md": markdown(result).encode(),
    }
    for name in REPORT_FILES:
        write_atomically(folder / name, contents[name])


def _record(result: SweepResult, point: Point) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": _name(point),
        "trial_id": point.trial_id,
        "budget": point.budget,
        "label_bytes": point.label_bytes,
        "image_bytes": point.image_bytes,
        "compression_ratio": result.all_label_bytes / point.label_bytes if point.label_bytes else None,
        "labels_to_images": point.label_bytes / point.image_bytes if point.image_bytes else None,
        "accuracy_mean": _finite(point.accuracy.mean),
        "accuracy_std": _finite(point.accuracy.std),
        "num_seeds": point.accuracy.n,
        "val_accuracy": _finite(point.val_accuracy),
        "on_front": point.on_front,
    }
    for key in _CONFIG_KEYS:
        value = point.config.get(key)
        record[key] = _finite(value) if isinstance(value, float) else value
    if point.config.get("kind") == "hard":
        record["bits"] = None  # no label is stored
    record["labels"] = point.labels
    return record


def _name(point: Point) -> str:
    """The budget of a point of the search; what a baseline is, and its budget where it has one."""
    budget = None if point.budget is None else format_bytes(point.budget)
    if budget is not None and point.config.get("kind", "search") == "search":
        return budget
    return ", ".join(part for part in (point.config.get("description") or point.trial_id, budget) if part)


def _finite(value: Any) -> Any:
    """`value`, or None for NaN and infinities, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None


def _described(point: Point) -> bool:
    return point.config.get("description", point.trial_id) not in ("", point.trial_id)


def _summary(result: SweepResult) -> str:
    seeds = sorted({point.accuracy.n for point in result.points})
    over = f", {'/'.join(map(str, seeds))} seed{'' if seeds == [1] else 's'} a point" if seeds else ""
    accuracy = _finite(result.teacher.get("accuracy"))
    teacher = f"teacher {100 * accuracy:.1f} %, " if accuracy is not None else ""
    return f"{teacher}all labels {format_bytes(result.all_label_bytes)}{over}"


def _ratio(value: float | None) -> str:
    """A ratio with as many digits as it deserves."""
    if value is None:
        return _BLANK
    if value >= 100:
        return f"{value:.0f}×"
    return f"{value:.3g}×" if value >= 0.01 else f"{value:.1g}×"


def _percent(value: float | None) -> str:
    return _BLANK if value is None else f"{100 * value:.1f}"


def _accuracy(record: dict[str, Any]) -> str:
    mean, std = _percent(record["accuracy_mean"]), _percent(record["accuracy_std"])
    return f"{mean} ± {std}" if record["num_seeds"] > 1 and mean != _BLANK else mean


def _setting(key: str) -> Callable[[dict[str, Any]], str]:
    def write(record: dict[str, Any]) -> str:
        value = record[key]
        if value is None:
            return _BLANK
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return write


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Name": lambda record: str(record["name"]),
    "Labels": lambda record: format_bytes(record["label_bytes"]),
    "Smaller": lambda record: _ratio(record["compression_ratio"]),
    "Labels / images": lambda record: _ratio(record["labels_to_images"]),
    "Accuracy %": _accuracy,
    "Validation %": lambda record: _percent(record["val_accuracy"]),
    "P": _setting("prune_ratio"),
    "k": _setting("k"),
    "Bits": _setting("bits"),
    "T": _setting("temperature"),
    "CA": _setting("ca"),
    "Front": lambda record: "yes" if record["on_front"] else "",
}
_CHOSEN_COLUMNS = {"epoch": "Epoch", "codec": "Codec", "hard_every": "Hard every"}
