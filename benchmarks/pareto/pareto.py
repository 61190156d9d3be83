"""Accuracy against bytes: the paper's table and ours, from scratch, with `lpqld` commands alone.

Run as `python benchmarks/pareto/pareto.py cifar10-10 [--only ROW ...] [--table]`, with the package installed and real
data at `LPQLD_SHARED_DATA` or `../shared/data`. Every finished row is a small JSON file under `results/`, so the work
goes on anywhere; teacher, images and labels are kept in `--cache`. `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_sets import DATA_SETS, DataSet
from label_students import cpu_name, versions
from real_data import DATA
from rows import Row, rows_of

from lpqld.store import write_atomically

_RESULTS = Path(__file__).resolve().parent / "results"
# One soft label of each image as it is.
_WHOLE = "views: {crop_scale: [1.0, 1.0], crop_ratio: [1.0, 1.0], flip: false, mix: none}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[data.name for data in DATA_SETS])
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of students, where the table's are too many")
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-pareto")
    arguments = parser.parse_args()
    (data,) = (data for data in DATA_SETS if data.name == arguments.data)
    chosen = [row for row in rows_of(data) if row.name.startswith(tuple(arguments.only or [""]))]
    if not arguments.table:
        folder = arguments.cache / data.name
        prepare(data, folder)
        for row in chosen:
            run_row(data, row, folder, arguments.seeds)
    print(table(data, chosen))


def prepare(data: DataSet, folder: Path) -> None:
    """Teacher, images and all labels, where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "whole.yaml").write_text(_WHOLE)
    for made, command in data.preparation().items():
        if not (folder / made).exists():
            lpqld(command, folder)


def run_row(data: DataSet, row: Row, folder: Path, seeds: int) -> None:
    """Compress and train, unless that was done."""
    path = result_file(data, row)
    if path.exists():
        return
    labels = row.source
    commands = []
    facts: dict[str, Any] = {}
    if row.labels:
        labels = f"labels/{file_name(row.name)}"
        command = ["compress", row.source, labels, *row.labels]
        commands.append(command)
        facts = lpqld(command, folder)
    command = ["train", "--images", row.images, "--labels", labels, "--eval", data.test, "--val", data.train]
    command += ["--arch", "cifar_resnet20", "--epochs", str(data.epochs), "--lr", "0.002", "--seeds", str(seeds)]
    command += row.train
    commands.append(command)
    trained = lpqld(command, folder)
    document = {
        "row": row.name,
        "commands": [" ".join(["lpqld", *command]) for command in commands],
        "reference_bytes": row.reference_bytes,
        "num_views": facts.get("num_views"),
        **trained,
        "machine": cpu_name(),
        "versions": versions(),
    }
    write_atomically(path, json.dumps(document, indent=2).encode())


def lpqld(command: list[str], folder: Path) -> dict[str, Any]:
    """What a command says with --json, run in the table's folder."""
    print("lpqld", *command, file=sys.stderr, flush=True)
    line = [part.replace("{data}", str(DATA)) for part in command]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *line, "--json"], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"failed with {done.returncode}: lpqld {' '.join(command)}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def result_file(data: DataSet, row: Row) -> Path:
    return _RESULTS / data.name / f"{file_name(row.name)}.json"


def file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def table(data: DataSet, rows: list[Row]) -> str:
    """What is there, in Markdown."""
    lines = [
        "| labels | bytes on disk | in the reference's files | views kept | validation, % | test, % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        path = result_file(data, row)
        if path.exists():
            found = json.loads(path.read_bytes())
            cells = [
                row.name,
                f"{found['label_bytes']:,}",
                "" if row.reference_bytes is None else f"{row.reference_bytes:,}",
                str(found["num_views"] or ""),
                spread(found["val_accuracy"]["values"]),
                spread(found["accuracy"]["values"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    percents = [100 * value for value in values]
    if len(percents) < 2:
        return f"{percents[0]:.1f} (1 seed)"
    return f"{statistics.mean(percents):.1f} ± {statistics.stdev(percents):.1f}"


if __name__ == "__main__":
    main()
