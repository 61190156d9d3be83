"""The figures of a table, by the code that reports sweeps, and its experiment in MLflow.

Run as `python benchmarks/pareto/report.py cifar10-10 [--images docs/images] [--mlflow ROOT]`: draws the front, the
ablation and calibrated temperatures from the results that are there; with `--mlflow`, `lpqld ui --root ROOT` then
shows every row of the tables and every idea as a run. What explore.py tried is not among them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_sets import DATA_SETS, TWO, VIEWS, DataSet, data_set
from ideas import IDEAS, path_of, values_of
from pareto import result_file
from rows import Row, all_bytes, num_views, rows_of

from lpqld.storage import write_atomically
from sweeps.report import (
    Accuracy,
    Point,
    SweepResult,
    bar_figure,
    figure,
    mark_front,
    png,
    temperature_figure,
    write_report,
)
from sweeps.tracking import Experiment, Tracker

_BASE = "ours"
# Of rows of the ablation, by how their names begin, a number before it left out.
_GROUPS = {
    "prune and quantize": ("nothing", "neither"),
    "constant temperature": ("constant",),
    "schedule and calibration": ("T ",),
    "calibration": ("CA",),
    "the paper's labels": ("the paper's labels",),
    "classes not kept": ("topk", "low rank"),
    "bits": ("bits",),
    "classes kept": ("k =",),
    "views": ("views", "cutmix"),
    "steps": ("batches", "weight decay", "average", "epochs"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[data.name for data in DATA_SETS])
    parser.add_argument("--epochs", type=int, help="of students, instead of the table's")
    parser.add_argument("--images", type=Path, help="a folder for the figures")
    parser.add_argument("--mlflow", type=Path, metavar="ROOT", help="log every row to an experiment under ROOT")
    arguments = parser.parse_args()
    data = data_set(arguments.data)
    data = replace(data, epochs=arguments.epochs or data.epochs)
    found = {row.name: (row, read(data, row)) for row in rows_of(data) if result_file(data, row).exists()}
    result = result_of(data, found)
    if arguments.images:
        write_atomically(arguments.images / f"pareto-{data.name}.png", png(figure(result)))
        if _BASE in found:
            base, groups = bars(found)
            title = f"{data.name}: one change at a time, {found[_BASE][1]['label_bytes']:,} bytes of labels"
            drawn = bar_figure(f"{title}\nbase: {base_of(data)}", base, groups)
            write_atomically(arguments.images / f"ablation-{data.name}.png", png(drawn))
        calibrated = trainings(data)
        if calibrated:
            path = arguments.images / f"temperatures-{data.name}.png"
            write_atomically(path, png(temperature_figure(calibrated)))
    if arguments.mlflow:
        record(data, result, found, arguments.mlflow)
        print(f"lpqld ui --root {arguments.mlflow}    # then open the experiment {experiment_of(data)}")


def base_of(data: DataSet) -> str:
    """What the ablation starts from, in short."""
    labels, train = data.ours, data.our_train
    return (
        f"{labels['codec']}, k = {labels['k']}, {labels['bits']} bits, {VIEWS[data.our_source].mix},"
        f" T = {train['temperature']}, CA {train['ca']}"
    )


def read(data: DataSet, row: Row) -> dict[str, Any]:
    """What was found."""
    document: dict[str, Any] = json.loads(result_file(data, row).read_bytes())
    return document


Found = Mapping[str, tuple[Row, dict[str, Any]]]


def result_of(data: DataSet, found: Found) -> SweepResult:
    """The rows of the table as a sweep's result: ours as its points, the others as baselines."""
    points, baselines = [], []
    for name, (row, facts) in found.items():
        if row.group != "table":
            continue
        label_bytes = facts["label_bytes"]
        if name.startswith("ours") and row.source != TWO:
            points.append(point(data, row, facts, name, label_bytes, budget=label_bytes))
            continue
        series = next((series for series, starts in _SERIES.items() if name.startswith(starts)), name)
        if not name.startswith("LPQLD"):
            # Rows of all labels that only our format holds stand where the same ones of the reference's do.
            whole = all_bytes(data) if name.startswith("all labels") else row.reference_bytes
            baselines.append(point(data, row, facts, series, whole or label_bytes))
            continue
        if "our recipe" not in name:
            baselines.append(point(data, row, facts, f"{series}, in its files", row.reference_bytes or 0))
        baselines.append(
            point(data, row, facts, f"{series}, in our format (above: our recipe, hard epochs)", label_bytes)
        )
    return SweepResult(
        experiment=f"{data.name}, {data.epochs} epochs",
        root="",
        teacher={},
        points=mark_front(points),
        baselines=tuple(baselines),
        seconds={},
        all_label_bytes=all_bytes(data),
    )


def point(
    data: DataSet, row: Row, facts: dict[str, Any], series: str, label_bytes: int, budget: int | None = None
) -> Point:
    recipe, views = facts["recipe"], facts["num_views"]
    settings = {
        "kind": "row",
        "series": series,
        "description": row.name + (", in the reference's files" if label_bytes == row.reference_bytes else ""),
        "num_views": views,
        "k": row.labels.get("k"),
        "bits": row.labels.get("bits"),
        "prune_ratio": None if views is None else 1 - views / num_views(data),
    }
    return Point(
        trial_id=row.name,
        budget=budget,
        label_bytes=label_bytes,
        image_bytes=facts["image_bytes"],
        accuracy=accuracy(facts),
        val_accuracy=facts["val_accuracy"]["mean"],
        config={**settings, **{key: recipe[key] for key in _SHOWN}},
    )


_SHOWN = ("temperature", "ca", "lr")
# Baselines that share a marker, by how their names begin.
_SERIES = {
    "all labels, in the reference's files: each T, our views, recipe, training": "all labels",
    "random real images: one soft label each, all, ours x80": "random real images",
    "LPLD, in its files": "LPLD",
    "LPQLD, the paper's setting": "LPQLD",
}


def accuracy(facts: dict[str, Any]) -> Accuracy:
    return Accuracy.of(facts["accuracy"]["values"])


def bars(found: Found) -> tuple[Accuracy, dict[str, dict[str, Accuracy]]]:
    """The base of the ablation, and what differs from it in one thing, by what that is."""
    groups: dict[str, dict[str, Accuracy]] = {}
    for name, (row, facts) in found.items():
        if row.group == "ablation" and name != _BASE:
            group = next((group for group, starts in _GROUPS.items() if starts_so(name, starts)), "other")
            more = facts["label_bytes"] > 1.1 * found[_BASE][1]["label_bytes"]
            shown = f"{name}: {facts['label_bytes']:,} bytes" if more else name
            groups.setdefault(group, {})[shown] = accuracy(facts)
    return accuracy(found[_BASE][1]), groups


def starts_so(name: str, starts: Sequence[str]) -> bool:
    """Whether a name begins so, a number before it left out."""
    return re.sub(r"^[\d.]+ ", "", name).startswith(tuple(starts))


def trainings(data: DataSet) -> dict[str, list[tuple[float, float]]]:
    """The temperatures of every epoch, of the first student of each idea that kept them."""
    found = {}
    for idea in IDEAS:
        path = path_of(data, idea, seed=1)
        kept = json.loads(path.read_bytes()).get("temperatures") if path.exists() else None
        if kept:
            found[idea.name] = list(zip(kept["teacher"], kept["student"], strict=True))
    return found


def record(data: DataSet, result: SweepResult, found: Found, root: Path) -> None:
    """An experiment in MLflow with a run a row and the report; rows that are recorded already are left alone."""
    tracker = Tracker(Experiment.open(root, experiment_of(data)))
    tracker.start_parent({"data": data.name, "epochs": data.epochs, **data.recipe}, {})
    for name, (row, facts) in found.items():
        in_files = {} if row.reference_bytes is None else {"reference_bytes": row.reference_bytes}
        metrics = {
            "label_bytes": facts["label_bytes"],
            "image_bytes": facts["image_bytes"],
            **in_files,
            **accuracies(facts["accuracy"]["values"], facts["val_accuracy"]["values"]),
        }
        params = {"commands": facts["commands"], "recipe": facts["recipe"], "versions": facts["versions"]}
        tracker.log_trial(f"{row.group}: {name}", name, params, [], metrics, tags={"lpqld.group": row.group})
    for idea in IDEAS:
        tested, validated = values_of(data, idea, "accuracy"), values_of(data, idea, "val_accuracy")
        if tested:
            tags = {"lpqld.group": "idea"}
            tracker.log_trial(f"idea: {idea.name}", idea.name, {}, [], accuracies(tested, validated), tags=tags)
    folder = root / experiment_of(data) / "report"
    write_report(result, folder)
    tracker.log_report(result, folder)
    tracker.finish("FINISHED")


def accuracies(tested: Sequence[float], validated: Sequence[float]) -> dict[str, float]:
    """Metrics over seeds."""
    test = Accuracy.of(tested)
    return {
        "test_accuracy": test.mean,
        "test_accuracy_std": test.std,
        "final_val_accuracy": Accuracy.of(validated).mean,
    }


def experiment_of(data: DataSet) -> str:
    return f"pareto-{data.folder}"


if __name__ == "__main__":
    main()
