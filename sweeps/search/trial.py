"""One training of a choice: its bytes, its accuracy. Plain functions; Ray wraps them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lpqld.models import accuracy
from lpqld.storage import kept_json, write_atomically
from lpqld.training import DivergedError, EpochMetrics, Student, ViewDataset, train
from sweeps.search.choice import Choice, Shared, choose_labels

NUM_RUNGS = 10
METRIC, MODE = "val_accuracy", "max"  # what a search goes by


def epochs_between_rungs(epochs: int) -> int:
    """After how many of its epochs a training tells its accuracy: so many that it does `NUM_RUNGS` times at most."""
    return math.ceil(epochs / NUM_RUNGS)


@dataclass(frozen=True)
class TrialResult:
    """What a training gave; `finished` is false where it was stopped early. Accuracies are fractions."""

    choice: Choice
    seed: int
    label_bytes: int
    image_bytes: int
    num_views: int
    prune_ratio: float
    val_accuracy: float
    test_accuracy: float | None
    seconds: float
    finished: bool
    history: tuple[EpochMetrics, ...] = field(default=())

    @property
    def config(self) -> dict[str, Any]:
        """The choice and what follows from it, for reports."""
        choice = {key: value for key, value in self.choice.params.items() if key != "budget"}
        derived = {"prune_ratio": self.prune_ratio, "num_views": self.num_views, "description": self.choice.description}
        return {**choice, **derived}

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomically(path, json.dumps(asdict(self)).encode())

    @classmethod
    def kept(cls, path: Path) -> TrialResult | None:
        """The inverse of `save`; None where nothing is kept, or not whole."""
        if (document := kept_json(path)) is None:
            return None
        history = tuple(EpochMetrics(**metrics) for metrics in document["history"])
        return cls(**{**document, "choice": Choice(**document["choice"]), "history": history})


def result_path(folder: Path, choice: Choice, seed: int) -> Path:
    """Where the result of a training is kept."""
    return folder / f"{choice.trial_id}-seed{seed}.json"


def run_trial(
    choice: Choice,
    shared: Shared,
    seed: int,
    folder: Path,
    *,
    device: torch.device,
    with_test: bool = False,
    on_rung: Callable[[TrialResult], None] = lambda result: None,
) -> TrialResult:
    """Train one student; a training that has finished before is read from `folder` instead.

    Args:
        folder: results are kept here, one JSON file a training.
        with_test: read the test set at the end; only confirmed choices do.
        on_rung: called at most `NUM_RUNGS` times with what is known so far, the last time after the result is kept.
    """
    path = result_path(folder, choice, seed)
    kept = TrialResult.kept(path)
    if kept is not None and kept.finished and (kept.test_accuracy is not None or not with_test):
        on_rung(kept)
        return kept
    start = time.perf_counter()
    chosen, recipe = choose_labels(choice, shared), shared.recipe_of(choice)
    images = shared.images
    if choice.kind == "real" and shared.real is not None:
        images = shared.real[0]
    if chosen.labels is None:
        rule = replace(shared.labels.spec.view_rule, mix="none")
        data = ViewDataset.hard(images, rule, shared.labels.spec.seed, recipe.epochs, device)
    else:
        data = ViewDataset.of_recipe(images, chosen.labels, recipe, device)
    student = Student(recipe, images.num_classes, seed)
    rung = epochs_between_rungs(recipe.epochs)
    quick = shared.rung_images
    history: list[EpochMetrics] = []

    def keep(val_accuracy: float, finished: bool) -> TrialResult:
        result = TrialResult(
            choice=choice,
            seed=seed,
            label_bytes=chosen.label_bytes,
            image_bytes=images.image_bytes,
            num_views=chosen.num_views,
            prune_ratio=chosen.prune_ratio,
            val_accuracy=val_accuracy,
            test_accuracy=accuracy(student, shared.test) if finished and with_test else None,
            seconds=time.perf_counter() - start,
            finished=finished,
            history=tuple(history),
        )
        result.save(path)
        on_rung(result)
        return result

    try:
        checkpoint = path.with_suffix(".checkpoint")
        for metrics in train(
            student, data, recipe, seed=seed, validation=quick, evaluate_every=rung, checkpoint=checkpoint
        ):
            history.append(metrics)
            if metrics.val_accuracy is None:
                continue
            finished, val_accuracy = metrics.epoch + 1 == recipe.epochs, metrics.val_accuracy
            if finished and quick is not shared.validation:
                val_accuracy = accuracy(student, shared.validation)
                history[-1] = replace(metrics, val_accuracy=val_accuracy)
            result = keep(val_accuracy, finished)
    except DivergedError:
        # A bad choice is no broken sweep: it keeps the accuracy that its student has.
        result = keep(accuracy(student, shared.validation), finished=True)
    return result
