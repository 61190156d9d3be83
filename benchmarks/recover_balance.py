"""Crops and the weight of the batch-norm term: of how many recovered images is a weak teacher right?

Run as `python benchmarks/recover_balance.py [--classes 4] [--iterations 400]`, with the package installed; prints a
table in Markdown. The teacher and the data are those of the case tiny200-10 of benchmarks/recover.py, and so is
`--cache`, where the teacher is fitted first if it is not there (an hour on 2 cores).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from recover import CASES

from lpqld.distill import Recoverer, RecoverRecipe, batches_of, squeeze
from lpqld.images import TrainingImages
from lpqld.models import Teacher

CROPS, WEIGHTS = (0.08, 0.25, 0.5), (0.05, 0.01, 0.005, 0.002)
_SIZE, _CPU = 32, torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=4, help="how many, from the first on")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-recover")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.name == "tiny200-10")
    training = TrainingImages.open(str(case.train), size=_SIZE)
    teacher = case.teacher(training.class_names, arguments.cache)
    print("| crops | " + " | ".join(f"r_bn {weight:g}" for weight in WEIGHTS) + " |", flush=True)
    print("|---|" + "---:|" * len(WEIGHTS), flush=True)
    for smallest in CROPS:
        cells = []
        for weight in WEIGHTS:
            recipe = RecoverRecipe(
                mode="class",
                iterations=arguments.iterations,
                crop_scale=(smallest, 1.0),
                bn_weight=weight,
                batch_size=case.ipc * arguments.classes,
            )
            right = share_right(teacher, training, recipe, case.ipc)
            print(f"{smallest:g}, {weight:g}: {right:.3f}", file=sys.stderr, flush=True)
            cells.append(f"{100 * right:.0f} %")
        print(f"| {smallest:g} to 1 | {' | '.join(cells)} |", flush=True)


def share_right(teacher: Teacher, training: TrainingImages, recipe: RecoverRecipe, ipc: int) -> float:
    """Of the images of the first batch of classes, how many the teacher takes for their class."""
    batch = batches_of(training.num_classes, ipc, recipe)[0]
    some = training.of_classes(batch.class_ids)
    statistics = squeeze(teacher, some.batches(100), batch.class_ids.tolist(), _CPU).statistics()
    images, _ = Recoverer(teacher, recipe, _SIZE, _CPU).recover(batch, statistics)
    with torch.inference_mode():
        found = teacher(images.float() / 255).argmax(dim=1)
    return float((found == torch.from_numpy(batch.classes)).float().mean())


if __name__ == "__main__":
    main()
