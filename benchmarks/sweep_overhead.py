"""What a sweep's trials cost beyond their trainings: the search and the confirm phase against the same trainings, bare.

Run as `python benchmarks/sweep_overhead.py [--json] [--epochs E ...] [--trials N]`. For each number of epochs, N trials
of digits are searched on a local Ray of one CPU, then confirmed; then the same choices are trained by plain calls of
`train` in one process, labels ready. The claim: trials of 2 minutes or more cost at most 1.05 x their trainings, and
short ones no 2 s of start each. One-time costs (Ray's first worker, Tune's start and end) are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray
import torch

from lpqld.codecs import Dense, Logits
from lpqld.images import ImageSet
from lpqld.labels import Labeler, Labels, encode, specify
from lpqld.models import FitRecipe, Teacher, accuracy, fit_teacher
from lpqld.training import Recipe, Student, ViewDataset, train
from lpqld.views import ViewRule
from sweeps.cluster import TrialResources
from sweeps.config import PaperConfig, SearchConfig
from sweeps.search import MasterLabels, Shared, TrialResult, confirm, epochs_between_rungs, search, spaces_for

_CPU = torch.device("cpu")
_BUDGET = 12_000
_LONG_SECONDS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--epochs", type=int, nargs="+", default=[30, 1500], help="of a trial's training")
    parser.add_argument("--trials", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shared = digits()
    options = {"num_cpus": 1, "object_store_memory": 300 * 2**20, "include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", logging_level=logging.ERROR, **options)
    with contextlib.redirect_stdout(sys.stderr):  # Tune prints
        rows = [measure(shared, epochs, arguments.trials) for epochs in arguments.epochs]
    ray.shutdown()
    document = {"trials": arguments.trials, "cores": os.cpu_count(), "rows": rows}
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    for row in rows:
        for phase in ("search", "confirm"):
            beyond, ratio = row[phase]["beyond_a_training"], row[phase]["ratio"]
            long = row[phase][f"ratio_at_{_LONG_SECONDS}_s"]
            print(
                f"{row['epochs']:>6} epochs, training {row['training']:6.2f} s  {phase:>8}: "
                f"{beyond:6.2f} s a trial beyond it, ratio {ratio:.3f}; {long:.3f} at {_LONG_SECONDS} s"
            )


def measure(shared: Shared, epochs: int, trials: int) -> dict:
    """Search and confirm with `epochs`, then the same trainings bare."""
    shared = replace(shared, recipe=replace(shared.recipe, epochs=epochs))
    config = SearchConfig(trials=trials, early_stopping=False, lr=(0.001, 0.006))
    found: list[TrialResult] = []
    data, wanted = ray.put(shared.prepared()), TrialResources(cpus=1, gpus=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spaces = spaces_for((_BUDGET,), config, shared)
        start = time.perf_counter()
        search(data, spaces, config, PaperConfig(), wanted, folder, seed=0, on_result=found.append)
        searched = time.perf_counter() - start
        choices = [result.choice for result in found]
        start = time.perf_counter()
        confirm(choices, range(1, 2), data, wanted, folder, on_result=lambda result: None)
        confirmed = time.perf_counter() - start
    bare = []
    for result in found:
        labels = result.choice.labels(shared).labels
        recipe = result.choice.recipe(shared)
        start = time.perf_counter()
        data = ViewDataset(shared.images, labels, _CPU)
        student = Student(recipe, shared.images.num_classes, 0)
        every = epochs_between_rungs(epochs)
        for _ in train(student, data, recipe, seed=0, validation=shared.validation, evaluate_every=every):
            pass
        bare.append(time.perf_counter() - start)
    start = time.perf_counter()
    accuracy(student, shared.test)
    test = time.perf_counter() - start
    return {
        "epochs": epochs,
        "training": statistics.median(bare),
        "search": _against(searched, sum(bare), len(bare)),
        "confirm": _against(confirmed, sum(bare) + test * len(bare), len(bare)),
    }


def _against(seconds: float, bare: float, trials: int) -> dict:
    beyond = (seconds - bare) / trials
    return {
        "seconds": seconds,
        "bare_seconds": bare,
        "beyond_a_training": beyond,
        "ratio": seconds / bare,
        f"ratio_at_{_LONG_SECONDS}_s": 1 + beyond / _LONG_SECONDS,
    }


def digits() -> Shared:
    """Ten digits a class with 300 views each, labelled by a teacher of three epochs."""
    rule, train_images = ViewRule(crop_scale=(0.6, 1.0), flip=False), ImageSet.open("digits:train")
    teacher = Teacher(*fit_teacher(train_images, FitRecipe("convnet", 3), seed=0))
    images = train_images.sample_per_class(10, seed=0)
    spec = specify(teacher, images, rule, views_per_image=300, seed=0, batch_size=100, device=_CPU)
    batches = Labeler(teacher, images, rule, 0, _CPU).batches(0, spec.num_views, 100, Dense())
    labels = encode(Labels(spec, Logits.concatenate(list(batches))), Dense()).decode()
    recipe = Recipe(temperature="20:2:step", lr=0.002)
    return Shared(images, MasterLabels(labels), ImageSet.open("digits:val"), ImageSet.open("digits:test"), recipe)


if __name__ == "__main__":
    main()
