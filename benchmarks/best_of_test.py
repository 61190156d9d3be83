"""How much higher the best of several test evaluations is than that of the last epoch, or of one that validation chose.

Run as `python benchmarks/best_of_test.py cifar10 [--ipc N ...] [--every EPOCHS] [--cache FOLDER] [--json]`
after `studies.py DATA --only expert-epoch`, whose students these are: on the labels that validation chose there, by its
settings. docs/studies-findings.md has the table of what `--json` printed to `studies/DATA/best_of_test.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from label_students import cpu_name, versions
from real_data import in_place
from studies import DATA, settings_of

from lpqld._malloc import keep_freed_memory
from lpqld.images import ImageSet
from lpqld.labels import LabelSet
from lpqld.models import accuracy
from lpqld.training import Student, ViewDataset, train
from sweeps.config import StudyConfig, load_study_config, parse_settings
from sweeps.jobs import Evaluation, open_evaluation
from sweeps.report import Accuracy
from sweeps.studies import RESULT_FILE, signed, spread

_STUDY = "expert-epoch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--ipc", nargs="+", type=int, help="default: those of the study")
    parser.add_argument("--every", type=int, default=15, help="epochs between evaluations")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-studies")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    root = arguments.cache / arguments.data
    rows = [
        {"ipc": ipc, **_compared(arguments.data, ipc, root, arguments.every)}
        for ipc in arguments.ipc or DATA[arguments.data].ipc
    ]
    document = {"benchmark": "best_of_test", "data": arguments.data, "every": arguments.every, "rows": rows}
    document |= {"machine": cpu_name(), "versions": versions()}
    print(json.dumps(document, indent=1) if arguments.json else as_text(rows))


def _compared(data: str, ipc: int, root: Path, every: int) -> dict[str, Any]:
    study, config = json.loads((root / "studies" / _STUDY / RESULT_FILE).read_text()), _config(data)
    chosen = study["chosen"][str(ipc)]["case"]
    (folders,) = (case["labels"] for case in study["cases"] if case["case"] == chosen)
    images = ImageSet.open(config.images, size=config.size)
    evaluation = open_evaluation(config.eval, images)
    curves = [
        _curve(config, images, LabelSet.open(folder), evaluation, seed, every)
        for seed, folder in enumerate(folders, start=1)
    ]
    return {
        "epoch": chosen["epoch"],
        "curves": curves,
        "last": [curve[-1]["test"] for curve in curves],
        "validation chose": [max(curve, key=lambda point: point["val"])["test"] for curve in curves],
        "best of test": [max(point["test"] for point in curve) for curve in curves],
    }


def _config(data: str) -> StudyConfig:
    settings = parse_settings([f"{key}={value}" for key, value in settings_of(data, _STUDY).items()])
    found = DATA[data]
    return load_study_config(None, {**settings, "images": in_place(found.images), "eval.source": in_place(found.test)})


def _curve(
    config: StudyConfig, images: ImageSet, labels: LabelSet, evaluation: Evaluation, seed: int, every: int
) -> list[dict[str, float]]:
    """Accuracies of a student, at even distances and in its end; `images`: those of the labels, and others."""
    student = Student(config.student, images.num_classes, seed)
    data = ViewDataset.of_recipe(
        labels.images_of(images), labels.labels, config.student, torch.device("cpu"), seed=seed
    )
    points = []
    for metrics in train(student, data, config.student, seed=seed):
        finished = metrics.epoch + 1
        if finished % every == 0 or finished == config.student.epochs:
            test, val = accuracy(student, evaluation.test), accuracy(student, evaluation.validation)
            points.append({"epoch": finished, "test": test, "val": val})
    return points


def as_text(rows: list[dict[str, Any]]) -> str:
    """A table in Markdown: percent, and in brackets the difference from the last epoch, seed by seed."""
    lines = [
        "| images of a class | the last epoch | the epoch that validation chose | the best by the test set |",
        "|---:" * 4 + "|",
    ]
    for row in rows:
        last = spread(Accuracy.of(row["last"]))
        lines.append(f"| {row['ipc']} | {last} | {_beside(row, 'validation chose')} | {_beside(row, 'best of test')} |")
    return "\n".join(lines)


def _beside(row: Mapping[str, list[float]], name: str) -> str:
    more = [other - last for other, last in zip(row[name], row["last"], strict=True)]
    return f"{spread(Accuracy.of(row[name]))} ({signed(Accuracy.of(more))})"


if __name__ == "__main__":
    main()
