"""How "ours" of 200 classes was found: labels and trainings, one student each, by validation images.

Run as `python benchmarks/pareto/explore.py [--only CANDIDATE ...] [--table]` after `pareto.py tiny200-10` has made
images and labels. All fit an 80th of the bytes of the reference's all labels, or a part of that; half the epochs, where
nothing else is said. The test set is not opened.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_sets import data_set
from pareto import RESULTS, Table, file_name
from rows import all_bytes
from student_jobs import on_one_cpu, write_as_they_finish

from lpqld.codecs import codec_for
from lpqld.images import ImageSet
from lpqld.labels import TEMPERATURES, EncodedLabels, Labels, LabelSet, encode, fill_budget, total_variation
from lpqld.models import accuracy
from lpqld.training import Recipe, Student, ViewDataset, train
from sweeps.cluster import cluster, use_assigned_resources

_DATA = data_set("tiny200-10")
_FACTOR = 80
_EPOCHS, _SEED = _DATA.epochs // 2, 1  # half of what the rows have: half the time
_EACH = 4  # of so many validation images, one is looked at
_PILOT_VIEWS = 4096
_COMPARED = 4000  # labels
_FAITHFUL = (
    *(("lowrank", 64, bits) for bits in (3, 4, 5, 6, 7)),
    *(("lowrank", 32, bits) for bits in (5, 6)),
    *(("dense", None, bits) for bits in (3, 4, 5)),
    ("topk-share", 20, 4),
    ("topk-tail", 20, 4),
)


@dataclass(frozen=True)
class Candidate:
    """Labels of a size, and a training on them.

    Attributes:
        codec, k, bits: as `lpqld compress` has them; of "lowrank", k directions.
        part: of the budget in bytes; 0 is without one.
        recipe: fields of the recipe, over `_RECIPE`.
        source: the label set that is compressed.
    """

    codec: str
    k: int | None
    bits: int
    part: float
    recipe: Mapping[str, Any] = field(default_factory=dict)
    source: str = "mixup"

    @property
    def name(self) -> str:
        kept = "" if self.k is None else f", k = {self.k}"
        changed = "".join(f", {key} {value}" for key, value in self.recipe.items())
        return f"{self.codec}{kept}, {self.bits} bits, {self.part:g} of the bytes, {self.source}{changed}"


_RECIPE = Recipe(architecture="cifar_resnet20", epochs=_EPOCHS, batch_size=50, lr=0.004, temperature="20", ca="off")
_SMALL_BATCHES: dict[str, Any] = {"batch_size": 20}
_SMALLER_BATCHES: dict[str, Any] = {"batch_size": 10, "weight_decay": 0.1}
_T4, _T2 = {"temperature": "4"}, {"temperature": "2"}
# With all epochs. Fewer labels are seen more often in more: what is best in half of them need not be in all.
_AS_ROWS: dict[str, Any] = {**_T4, **_SMALLER_BATCHES, "epochs": _DATA.epochs}
CANDIDATES = (
    Candidate("dense", None, 16, 0, source="all"),
    Candidate("dense", None, 3, 1),
    Candidate("topk", 10, 3, 1),
    Candidate("topk", 10, 3, 1, _T4),
    Candidate("topk", 10, 5, 1, {**_T2, **_SMALLER_BATCHES}),
    Candidate("topk-share", 10, 3, 1),
    Candidate("topk-share", 10, 3, 1, _T4),
    Candidate("topk-share", 20, 5, 1, {**_T4, **_SMALLER_BATCHES}),
    Candidate("topk-share", 10, 3, 1, {"temperature": "100", "weight_decay": 0.1}),
    Candidate("lowrank", 64, 4, 1),
    Candidate("lowrank", 64, 4, 1, _T4),
    Candidate("lowrank", 64, 4, 1, _SMALL_BATCHES),
    Candidate("lowrank", 64, 4, 1, _SMALLER_BATCHES),
    Candidate("lowrank", 64, 4, 1, {**_T4, **_SMALLER_BATCHES}),
    Candidate("lowrank", 64, 4, 1, {**_T2, **_SMALLER_BATCHES}),
    Candidate("lowrank", 64, 5, 1, {**_T4, **_SMALL_BATCHES}),
    *(Candidate("lowrank", 64, bits, 1, {**_T4, **_SMALLER_BATCHES}) for bits in (5, 6, 7, 8)),
    Candidate("lowrank", 64, 6, 1, {**_T2, **_SMALLER_BATCHES}),
    Candidate("lowrank", 64, 3, 0.25),
    Candidate("lowrank", 64, 4, 0.25),
    *(Candidate("lowrank", 64, bits, 0.25, {**_T4, **_SMALLER_BATCHES}) for bits in (4, 5, 6, 7)),
    Candidate("dense", None, 16, 0, {**_AS_ROWS, "batch_size": 20}, "all"),
    *(Candidate("lowrank", 64, bits, 1, _AS_ROWS) for bits in (4, 5, 6)),
    *(Candidate("lowrank", 64, bits, 0.25, _AS_ROWS) for bits in (4, 5, 6)),
    *(Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "temperature": each}) for each in ("8", "20")),
    *(Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "temperature": each}, "all") for each in ("4", "20")),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 5, "lr": 0.003}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "weight_decay": 0.01}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "lr": 0.002}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 20}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 50}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 20, "temperature": "8"}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 20, "weight_decay": 0.3}, "all"),
    Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 20, "lr": 0.008}, "all"),
    *(Candidate("lowrank", 64, 5, 1, {**_AS_ROWS, "batch_size": 20}, source) for source in ("near", "far")),
    *(Candidate("lowrank", 64, bits, 1, {**_AS_ROWS, "batch_size": 20}, "all") for bits in (4, 6)),
    Candidate("lowrank", 64, 5, 0.25, {**_AS_ROWS, "batch_size": 20}, "all"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="candidates whose names begin so")
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--fidelity", action="store_true", help="print total-variation distances, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-pareto")
    arguments = parser.parse_args()
    chosen = [candidate for candidate in CANDIDATES if candidate.name.startswith(tuple(arguments.only or [""]))]
    if arguments.fidelity:
        print(fidelity(LabelSet.open(arguments.cache / _DATA.folder / "mixup").labels))
        return
    if not arguments.table:
        run([candidate for candidate in chosen if not path_of(candidate).exists()], arguments.cache)
    print(markdown(chosen))


def run(pending: Sequence[Candidate], cache: Path) -> None:
    """A training of each."""
    folder, sources = cache / _DATA.folder, {each.source for each in pending}
    with cluster(None):
        Table(_DATA, folder, ray.get_runtime_context().gcs_address, seeds=1).prepare(cache / _DATA.name, sources)
        images = ImageSet.open(folder / "images")
        known = _DATA.opened(_DATA.val, images)
        masters = {source: LabelSet.open(folder / source).labels for source in sources}
        train_one, running = on_one_cpu(student), {}
        shared = ray.put((images, known.take(np.arange(0, known.num_images, _EACH))))
        for candidate in pending:
            made = compressed(candidate, masters[candidate.source])
            facts = {"candidate": candidate.name, "label_bytes": made.num_bytes, "num_views": made.spec.num_views}
            recipe = replace(_RECIPE, **candidate.recipe)
            running[train_one.remote(facts, shared, made, recipe)] = path_of(candidate)
        write_as_they_finish(running)


def compressed(candidate: Candidate, master: Labels) -> EncodedLabels:
    pilot, num_classes = master.logits.take(slice(0, _PILOT_VIEWS)), master.spec.num_classes
    codec = codec_for(candidate.codec, k=candidate.k, bits=candidate.bits, num_classes=num_classes, pilot=pilot)
    if not candidate.part:
        return encode(master, codec)
    return fill_budget(master, codec, int(all_bytes(_DATA) // _FACTOR * candidate.part))


def fidelity(master: Labels) -> str:
    """Bytes of labels, and how far their softmax is from that of all logits, in Markdown."""
    heads = [f"T = {temperature:g}" for temperature in TEMPERATURES]
    lines = [f"| labels | bytes a label | {' | '.join(heads)} |", "|---|---:|" + "---:|" * len(heads)]
    for codec, k, bits in _FAITHFUL:
        made = compressed(Candidate(codec, k, bits, 1), master)
        distances = total_variation(encode(master, made.spec.codec, num_views=_COMPARED).decode(), master)
        cells = [f"{made.num_bytes / made.spec.num_views:.1f}", *(f"{100 * each:.1f}" for each in distances.values())]
        lines.append(f"| {codec}{'' if k is None else f' {k}'}, {bits} bits | {' | '.join(cells)} |")
    return "\n".join(lines)


def student(
    facts: dict[str, Any], shared: tuple[ImageSet, ImageSet], made: EncodedLabels, recipe: Recipe
) -> dict[str, Any]:
    """What is known of the labels, and how good a student of theirs is."""
    device, (images, known) = use_assigned_resources(cpus=1), shared
    network = Student(recipe, images.num_classes, _SEED)
    for _ in train(network, ViewDataset(images, made.decode(), device), recipe, seed=_SEED):
        pass
    return {**facts, "seed": _SEED, "recipe": recipe.to_json(), "val_accuracy": accuracy(network, known)}


def path_of(candidate: Candidate) -> Path:
    return RESULTS / _DATA.folder / "explored" / f"{file_name(candidate.name)}.json"


def markdown(candidates: Sequence[Candidate]) -> str:
    """What is there, in Markdown."""
    lines = [
        "| labels | views | T | batch | lr | weight decay | epochs | bytes | views kept | validation, % |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for candidate in candidates:
        path = path_of(candidate)
        if path.exists():
            found, recipe = json.loads(path.read_bytes()), replace(_RECIPE, **candidate.recipe)
            kept = "" if candidate.k is None else f" {candidate.k}"
            lines.append(
                f"| {candidate.codec}{kept}, {candidate.bits} bits | {candidate.source} | {recipe.temperature} "
                f"| {recipe.batch_size} | {recipe.lr:g} | {recipe.weight_decay:g} | {recipe.epochs} "
                f"| {found['label_bytes']:,} | {found['num_views']} | {100 * found['val_accuracy']:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
