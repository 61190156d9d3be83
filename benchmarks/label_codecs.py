"""What labels are worth in each way of storing them: fidelity to the teacher, and students' accuracy at equal bytes.

Run as `python benchmarks/label_codecs.py [--only NAME ...] [--seeds N] [--shard I/N]`. Fidelity is the mean
total-variation distance, on real ImageNet-1K logits, to the full softmax and to that of the exact 50 largest logits.
Students are ResNet-20s on 10 random Tiny-ImageNet images a class; each finished one is a file in `label_codecs/`
beside this script and is not trained again, seed 0 of every codec comes before seed 1. One thread; about ten minutes
a student. `--table` prints the tables of what is there, `--fidelity-only` and `--sizes` train nothing. The data lies
at `LPQLD_SHARED_DATA` or `../shared/data`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_students import Experiment, described, setup_of, stored, tiny200, train_student, versions
from label_variants import VARIANTS, Variant, named
from real_data import DATA

from lpqld.codecs import Logits, dense_ids
from lpqld.errors import ConfigError
from lpqld.labels import TEMPERATURES, EncodedLabels, probabilities
from lpqld.storage import write_atomically

BUDGET = 330_000
_HERE = Path(__file__).resolve()
_CHUNK = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(v.name for v in VARIANTS))
    parser.add_argument("--seeds", type=int, default=3, help="students of each way (default: 3)")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th training from the I-th on, I below N")
    parser.add_argument("--budget", type=int, default=BUDGET, help=f"bytes of every label set (default: {BUDGET})")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--fidelity-only", action="store_true")
    mode.add_argument("--sizes", action="store_true", help="print how many views fit the budget")
    mode.add_argument("--table", action="store_true", help="print what is there already, in Markdown")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--logits", type=Path, help="npz with an array `logits` [N, C], for the fidelity")
    parser.add_argument("--out", type=Path, default=_HERE.with_suffix(""), help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-label-codecs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fidelity_file = arguments.out / "fidelity.json"
    try:
        chosen = named(arguments.only)
        if not (arguments.table or arguments.sizes):
            fidelity = measure_fidelity(arguments.logits or DATA / "logits" / "in1k-logits.npz", chosen)
            if arguments.only is None:
                write_atomically(fidelity_file, json.dumps(fidelity, indent=1).encode())
        else:
            fidelity = json.loads(fidelity_file.read_bytes()) if fidelity_file.exists() else None
        if not (arguments.table or arguments.fidelity_only):
            experiment = tiny200(DATA, arguments.cache, arguments.budget, say)
            trained = tuple(variant for variant in chosen if variant.train)
            if arguments.sizes:
                print_sizes(experiment, trained)
                return
            train_all(experiment, trained, range(arguments.seeds), arguments.shard, arguments.out)
    except (ConfigError, ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks/label_codecs.py: {error}")
    document = {"fidelity": fidelity, "accuracy": summary(arguments.out)}
    print(json.dumps(document, indent=2) if arguments.json else as_text(document))


def measure_fidelity(path: Path, variants: tuple[Variant, ...]) -> dict[str, Any]:
    """Bytes a view of every codec, and its distances to the exact logits' targets by temperature."""
    with np.load(path) as arrays:
        logits = arrays["logits"].astype(np.float32)
        # As in a label set: the class of the view's image and that of its partner help to code the label.
        known = {"image", "partner"} <= set(arrays)
        hints = np.stack([arrays["image"], arrays["partner"]], axis=1).astype(np.int32) if known else None
    num_views, num_classes = logits.shape
    full = Logits(dense_ids(*logits.shape), logits)
    top = np.argsort(-logits, axis=1, kind="stable").astype(np.int32)
    exact = Logits(top[:, :50], np.take_along_axis(logits, top[:, :50].astype(np.int64), axis=1))
    rows = []
    for variant in variants:
        if variant.codec is None:
            codec, size, decoded = None, 0, Logits(top[:, :1], np.zeros((num_views, 1), np.float32))
        else:
            codec = variant.codec(full)
            payload = codec.encode(logits, hints=hints)
            size = len(payload)
            decoded = codec.decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
        rows.append(
            {
                "variant": variant.name,
                "codec": described(codec),
                "bytes_per_view": size / num_views,
                "to_full_softmax": distances(decoded, full, num_classes),
                "to_mr_50": distances(decoded, exact, num_classes),
            }
        )
    return {
        "labels": path.name,
        "num_views": num_views,
        "num_classes": num_classes,
        "versions": versions(),
        "rows": rows,
    }


def distances(labels: Logits, reference: Logits, num_classes: int) -> dict[str, float]:
    """Mean total-variation distance, in [0, 1], between two targets of the same views, by temperature."""
    num_views = len(labels.ids)
    found = {}
    for temperature in TEMPERATURES:
        total = 0.0
        for start in range(0, num_views, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            p, q = (probabilities(logits.take(chunk), temperature, num_classes) for logits in (labels, reference))
            total += float(np.abs(p - q).sum()) / 2
        found[f"{temperature:g}"] = total / num_views
    return found


def train_all(experiment: Experiment, variants: tuple[Variant, ...], seeds: range, shard: str, out: Path) -> None:
    """Train the students of this shard that are not in `out` yet, each written there when it is done.

    Raises:
        ValueError: a shard that is none, or a result that was made in another setup.
    """
    index, count = _shard(shard)
    tasks = [(variant, seed) for seed in seeds for variant in variants][index::count]
    encoded: dict[str, EncodedLabels | None] = {}
    for done, (variant, seed) in enumerate(tasks, 1):
        path = out / f"{_file_stem(variant)}-seed{seed}.json"
        if path.exists():
            if json.loads(path.read_bytes())["setup"] != setup_of(experiment, variant):
                raise ValueError(f"{path} was made in another setup; delete it, or choose another --out")
            continue
        if variant.name not in encoded:
            encoded[variant.name] = stored(experiment, variant)
        result = train_student(experiment, variant, encoded[variant.name], seed)
        write_atomically(path, json.dumps(result, indent=1).encode())
        seconds, test = result["seconds"]["wall"], result["accuracy"]["test"]
        say(f"{done} of {len(tasks)}: {variant.name}, seed {seed}: test accuracy {test:.2%}, {seconds:.0f} s")


def print_sizes(experiment: Experiment, variants: tuple[Variant, ...]) -> None:
    """How many views of every way fit the budget."""
    for variant in variants:
        try:
            labels = stored(experiment, variant)
        except ConfigError as error:
            print(f"{variant.name:<14} {error}")
            continue
        if labels is not None:
            views = labels.spec.num_views / labels.spec.num_images
            per_view = labels.num_bytes / labels.spec.num_views
            print(f"{variant.name:<14} {labels.num_bytes:>10,} B {per_view:6.1f} B a view {views:5.1f} views an image")


def summary(out: Path) -> list[dict[str, Any]]:
    """Mean and deviation over seeds of what `out` holds, in the order of the variants."""
    results = [json.loads(path.read_bytes()) for path in sorted(out.glob("*-seed*.json"))]
    rows = []
    for variant in VARIANTS:
        of_variant = [result for result in results if result["variant"] == variant.name]
        if not of_variant:
            continue
        row: dict[str, Any] = {"variant": variant.name, "seeds": sorted(result["seed"] for result in of_variant)}
        for split in ("test", "validation"):
            values = [result["accuracy"][split] for result in of_variant]
            std = statistics.stdev(values) if len(values) > 1 else None
            row[split] = {"mean": statistics.mean(values), "std": std}
        for name in ("label_bytes", "views_per_image"):
            row[name] = statistics.mean(result[name] for result in of_variant)
        row["temperature"] = of_variant[0]["setup"]["recipe"]["temperature"]
        row["seconds"] = statistics.mean(result["seconds"]["wall"] for result in of_variant)
        rows.append(row)
    return rows


def as_text(document: dict[str, Any]) -> str:
    """Both tables in Markdown."""
    lines = []
    if fidelity := document["fidelity"]:
        temperatures = [f"T = {temperature:g}" for temperature in TEMPERATURES]
        lines += [
            f"Total-variation distance, in percent, of {fidelity['num_views']} labels of {fidelity['num_classes']}"
            " classes to the full softmax | and to the MR-50 target:",
            "",
            *_table_head(["labels", "bytes a view", *temperatures, *temperatures]),
        ]
        for row in fidelity["rows"]:
            numbers = [*row["to_full_softmax"].values(), *row["to_mr_50"].values()]
            cells = [row["variant"], f"{row['bytes_per_view']:.1f}", *(f"{100 * number:.1f}" for number in numbers)]
            lines.append(_table_row(cells))
        lines.append("")
    if document["accuracy"]:
        lines += _table_head(["labels", "bytes", "views an image", "T", "test, %", "validation, %", "seeds"])
    for row in document["accuracy"]:
        accuracies = [_plus_minus(row[split]) for split in ("test", "validation")]
        cells = [row["variant"], f"{row['label_bytes']:,.0f}", f"{row['views_per_image']:.1f}", row["temperature"]]
        lines.append(_table_row([*cells, *accuracies, f"{len(row['seeds'])}"]))
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _plus_minus(found: dict[str, float | None]) -> str:
    mean = f"{100 * (found['mean'] or 0):.2f}"
    return mean if found["std"] is None else f"{mean} ± {100 * found['std']:.2f}"


def _table_head(cells: list[str]) -> list[str]:
    return [_table_row(cells), _table_row(["---", *["---:"] * (len(cells) - 1)])]


def _table_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _file_stem(variant: Variant) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", variant.name)


def _shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdigit() for part in parts) and int(parts[0]) < int(parts[1]):
        return int(parts[0]), int(parts[1])
    raise ValueError(f"--shard {text}: expected I/N with I from 0 to N - 1, such as 0/2")


if __name__ == "__main__":
    main()
