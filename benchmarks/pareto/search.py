"""Whether the search earns its keep: fronts by ours, by random search and by the paper's fixed settings.

Run as `python benchmarks/pareto/search.py [--seeds 3] [--table]` after `pareto.py cifar10-10` has made images. Each
method is an `lpqld sweep` of CIFAR-10 at 10 images per class with fewer epochs, over three budgets. A front is worth
its hypervolume: the area of (decades of label bytes) x (accuracy) that it beats, down to all labels' bytes and to a
guess (10 %), of validation images, which chose, and of test images. What a search costs is counted in trainings:
epochs trained, of all trials, over the epochs of one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands import lpqld
from data_sets import DATA_SETS
from label_students import cpu_name, versions
from real_data import in_place

from lpqld.storage import write_atomically
from sweeps.report import hypervolume

_RESULTS = Path(__file__).resolve().parent / "results" / "search"
_EPOCHS, _CONFIRM_SEEDS = 80, 3
_BUDGETS = ("x20", "x40", "x80")
_GUESS = 0.1
_SPENT = (2, 4, 6, 8, 12, 16)
_ALONE = "confirm.baselines=false"  # the first sweep of ours has them, and nothing searches them


@dataclass(frozen=True)
class Method:
    """A way to search.

    Attributes:
        name: of the method and of its files.
        trials: of each budget.
        settings: `--set` of the sweep.
    """

    name: str
    trials: int
    settings: tuple[str, ...]


METHODS = (
    Method("ours", 16, ()),
    Method("without early stopping", 16, ("search.early_stopping=false",)),
    Method("random", 9, ("search.early_stopping=false", "search.sampler=random")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[method.name for method in METHODS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-pareto")
    arguments = parser.parse_args()
    chosen = [method for method in METHODS if method.name in (arguments.only or [method.name])]
    if not arguments.table:
        for seed in range(arguments.seeds):
            for method in chosen:
                path = path_of(method, seed)
                if not path.exists():
                    write_atomically(path, json.dumps(sweep(method, seed, arguments.cache), indent=2).encode())
    print(markdown(chosen, arguments.seeds))


def sweep(method: Method, seed: int, cache: Path) -> dict[str, Any]:
    """What a sweep by a method found, and what it took."""
    data, root = DATA_SETS[0], cache / "search"
    name = f"{method.name.replace(' ', '-')}-seed{seed}"
    options = {
        "images": cache / data.folder / "images",
        "eval": in_place(data.test),
        "val": in_place(data.val),
        "teacher": in_place(data.teacher),
        "trials": method.trials,
        "name": name,
        "root": root,
    }
    settings = {
        "seed": seed,
        "student.epochs": _EPOCHS,
        "confirm.seeds": _CONFIRM_SEEDS,
        "relabel.folder": root / "labels",
        "search.hard_every": "[0]",  # which the results that are there did not have yet
    }
    line = ["sweep", data.preset, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]
    for budget in _BUDGETS:
        line += ["--budget", budget]
    alone = (_ALONE,) if seed or method != METHODS[0] else ()
    for assignment in (*(f"{key}={value}" for key, value in settings.items()), *method.settings, *alone):
        line += ["--set", assignment]
    found = lpqld(line, Path.cwd())
    paper = [point for point in found["baselines"] if point["config"].get("kind") == "paper"]
    return {
        "method": method.name,
        "seed": seed,
        "settings": list(method.settings),
        "trials": method.trials,
        **told_by_trials(root / name / "trials"),
        "seconds": found["seconds"],
        "all_label_bytes": found["all_label_bytes"],
        "points": [brief(point) for point in found["points"]],
        "paper": [brief(point) for point in paper],
        "machine": cpu_name(),
        "versions": versions(),
    }


def brief(point: dict[str, Any]) -> dict[str, Any]:
    keys = ("budget", "label_bytes", "val_accuracy", "config")
    return {**{key: point[key] for key in keys}, "accuracy": point["accuracy"]["values"]}


def told_by_trials(folder: Path) -> dict[str, Any]:
    """What the trials of a search trained, in trainings of all epochs; those that confirm are not counted.

    `curves` has the trials of each budget in the order in which they ended: trainings up to there, and validation
    accuracy, none of a trial that was stopped.
    """
    curves: dict[int, list[tuple[float, float | None]]] = {}
    for path in sorted(folder.glob("*-seed0.json"), key=lambda path: path.stat().st_mtime_ns):
        result = json.loads(path.read_bytes())
        if result["choice"]["kind"] != "search":
            continue
        curve = curves.setdefault(result["choice"]["budget"], [])
        epochs = len(result["history"])
        spent = (curve[-1][0] if curve else 0.0) + epochs / _EPOCHS
        curve.append((round(spent, 2), round(result["val_accuracy"], 4) if epochs == _EPOCHS else None))
    return {"trainings": round(sum(curve[-1][0] for curve in curves.values()), 2), "curves": curves}


@dataclass(frozen=True)
class Front:
    """What one search found: hypervolumes, and test accuracies by budget, the largest first."""

    validation: float
    test: float
    accuracies: tuple[float, ...]

    @classmethod
    def of(cls, found: dict[str, Any], points: Sequence[dict[str, Any]]) -> Front:
        ordered = sorted(points, key=lambda point: -point["budget"])
        tested = tuple(statistics.mean(point["accuracy"]) for point in ordered)
        validated = [point["val_accuracy"] for point in ordered]
        sizes, worst = [point["label_bytes"] for point in ordered], found["all_label_bytes"]
        volumes = (hypervolume(sizes, accuracies, worst, _GUESS) for accuracies in (validated, tested))
        return cls(*volumes, accuracies=tested)


def path_of(method: Method, seed: int) -> Path:
    return _RESULTS / f"{method.name.replace(' ', '-')}-seed{seed}.json"


def results_of(method: Method, seeds: int) -> list[dict[str, Any]]:
    """Of the sweeps that are there."""
    paths = [path_of(method, seed) for seed in range(seeds)]
    return [json.loads(path.read_bytes()) for path in paths if path.exists()]


def markdown(methods: Sequence[Method], seeds: int) -> str:
    """What is there, in Markdown."""
    lines = [
        "| search | trials of a budget | trainings | volume, validation | volume, test "
        f"| test, % at {', '.join(_BUDGETS)} |",
        "|---|---:|---:|---:|---:|---|",
    ]
    paper: list[Front] = []
    for method in methods:
        results = results_of(method, seeds)
        if not results:
            continue
        paper += [Front.of(found, found["paper"]) for found in results if found["paper"]]
        spent = statistics.mean(found["trainings"] for found in results)
        fronts = [Front.of(found, found["points"]) for found in results]
        lines.append(f"| {method.name} | {method.trials} | {spent:.0f} | {cells(fronts)} |")
    if paper:
        lines.append(f"| the paper's settings | none | 0 | {cells(paper)} |")
    return "\n".join([*lines, "", *by_trainings(methods, seeds)])


def by_trainings(methods: Sequence[Method], seeds: int) -> list[str]:
    """The best validation accuracy of one training after so many of a budget, mean over budgets and searches."""
    lines = [
        "| search | " + " | ".join(f"{spent} trainings" for spent in _SPENT) + " |",
        "|---" * (len(_SPENT) + 1) + "|",
    ]
    for method in methods:
        curves = [curve for found in results_of(method, seeds) for curve in found["curves"].values()]
        shown = []
        for spent in _SPENT:
            best = [max((value for at, value in curve if value and at <= spent), default=None) for curve in curves]
            ended = not curves or spent > max(curve[-1][0] for curve in curves) + 1
            known = [value for value in best if value is not None]
            shown.append("" if ended or not known else f"{100 * statistics.mean(known):.1f}")
        lines.append(f"| {method.name} | {' | '.join(shown)} |")
    return lines


def cells(fronts: Sequence[Front]) -> str:
    """Hypervolumes, mean and deviation over searches; accuracies, means."""
    volumes = [spread([getattr(front, images) for front in fronts]) for images in ("validation", "test")]
    means = [statistics.mean(column) for column in zip(*(front.accuracies for front in fronts), strict=True)]
    return f"{' | '.join(volumes)} | {', '.join(f'{100 * mean:.1f}' for mean in means)}"


def spread(volumes: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(volumes):.3f}" if len(volumes) > 1 else ""
    return f"{statistics.mean(volumes):.3f}{deviation}"


if __name__ == "__main__":
    main()
