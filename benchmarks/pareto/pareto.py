"""Accuracy against bytes: the paper's table and ours, from scratch, with `lpqld` commands alone.

Run as `python benchmarks/pareto/pareto.py cifar10-10 [--only ROW ...] [--table]`, with the package installed and real
data at `LPQLD_SHARED_DATA` or `../shared/data`. Every finished row is a small JSON file under `results/`, so the work
goes on anywhere; teacher, images and labels are kept in `--cache`. `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import ray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands import lpqld
from data_sets import DATA_SETS, OF_EPOCHS, SECOND, TWO, DataSet, data_set
from label_students import cpu_name, versions
from rows import Row, rows_of

from lpqld.storage import write_atomically
from sweeps.cluster import cluster
from sweeps.report import Accuracy
from sweeps.studies import spread as mean_and_deviation

RESULTS = Path(__file__).resolve().parent / "results"
_LABEL_SETS = (*OF_EPOCHS, "one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[data.name for data in DATA_SETS])
    parser.add_argument("--group", nargs="+", help="groups of rows: table, architectures, ablation, joint")
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of students, instead of the table's")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time")
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-pareto")
    arguments = parser.parse_args()
    data = data_set(arguments.data)
    data = replace(data, epochs=arguments.epochs or data.epochs)
    rows = {row.name: row for row in rows_of(data)}
    chosen = [
        row
        for row in rows.values()
        if row.name.startswith(tuple(arguments.only or [""])) and row.group in (arguments.group or [row.group])
    ]
    if not arguments.table:
        folder = arguments.cache / data.folder
        with cluster(None), ThreadPoolExecutor(arguments.jobs) as pool:
            table_of = Table(data, folder, ray.get_runtime_context().gcs_address, arguments.seeds)
            needed = [rows[str(name)] for name in {row.budget_of for row in chosen} - {None}]
            table_of.prepare(arguments.cache / data.name, {row.source for row in [*chosen, *needed]})
            for _ in pool.map(table_of.run, needed):
                pass
            for row, failure in zip(chosen, pool.map(table_of.tried, chosen), strict=True):
                if failure is not None:
                    print(f"{row.name}: {failure}", file=sys.stderr)
    print(markdown(data, chosen))


@dataclass(frozen=True)
class Table:
    """A data set's rows, being made.

    Attributes:
        folder: of images and labels.
        address: of the Ray cluster that all commands share.
        seeds: students of a row.
    """

    data: DataSet
    folder: Path
    address: str
    seeds: int

    def prepare(self, shared: Path, sources: Collection[str]) -> None:
        """Teacher, images and label sets of `sources`, but what is there; `shared` does not depend on the epochs."""
        shared.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (shared, self.folder):
            for name, text in self.data.settings().items():
                (folder / name).write_text(text)
        for made, command in self.data.preparation().items():
            if (made in _LABEL_SETS and made not in sources) or (made == SECOND and TWO not in sources):
                continue
            link = self.folder / made
            if made in OF_EPOCHS:
                if not finished(link):
                    lpqld(command, self.folder)
                continue
            if not finished(shared / made):
                lpqld(command, shared)
            if not link.is_symlink():
                link.symlink_to(shared.absolute() / made)

    def tried(self, row: Row) -> SystemExit | None:
        """`run`, and why it failed: the other rows go on."""
        try:
            self.run(row)
        except SystemExit as failure:
            return failure
        return None

    def run(self, row: Row) -> None:
        """Compress and train, unless that was done."""
        path = result_file(self.data, row)
        if path.exists():
            return
        labels, facts, commands = row.source, {}, []
        if row.labels:
            labels = f"labels/{file_name(row.name)}"
            options = {name: value for name, value in row.labels.items() if value}
            if row.budget_of is not None:
                of = json.loads(result_file(self.data, replace(row, name=row.budget_of)).read_bytes())
                options["budget"] = str(of["label_bytes"])
            if row.total is not None:
                options["budget"] = str(row.total - lpqld(["inspect", row.images], self.folder)["image_bytes"])
            commands.append(["compress", row.source, labels, *options_of(options)])
            if not (self.folder / labels / "manifest.json").exists():
                shutil.rmtree(self.folder / labels, ignore_errors=True)
                lpqld(commands[-1], self.folder)
            facts = lpqld(["inspect", labels], self.folder)
        images = self.data.train if row.images == "real" else row.images
        train = ["train", "--images", images, "--labels", labels, "--eval", self.data.test, "--val", self.data.val]
        options = {**self.data.recipe, "epochs": str(self.data.epochs), "seeds": str(self.seeds), **row.train}
        commands.append([*train, *options_of(options)])
        trained = lpqld([*commands[-1], "--address", self.address], self.folder)
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


def finished(path: Path) -> bool:
    """Whether a file, a label set or an image set is there, and not a part of it: the commands go on from that."""
    return path.is_file() or (path / "manifest.json").exists() or any(path.glob("*.parquet"))


def options_of(options: Mapping[str, str]) -> list[str]:
    """As a command line has them."""
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def result_file(data: DataSet, row: Row) -> Path:
    return RESULTS / data.folder / f"{file_name(row.name)}.json"


def file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def markdown(data: DataSet, rows: list[Row]) -> str:
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
    """Mean and deviation over seeds, in percent."""
    return mean_and_deviation(Accuracy.of(values)) if len(values) > 1 else f"{100 * values[0]:.1f} (1 seed)"


if __name__ == "__main__":
    main()
