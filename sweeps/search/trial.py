"""One trial: a choice and its student, their bytes and accuracy. Plain functions; Ray wraps them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lpqld.images import ImageSet
from lpqld.models import accuracy
from lpqld.storage import kept_json, write_atomically
from lpqld.training import DivergedError, EpochMetrics, Recipe, Student, ViewDataset, train
from sweeps.search.choice import Choice, ChosenLabels
from sweeps.search.choice_kinds import choice_from_json
from sweeps.search.shared import Shared

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
        params = {name: value for name, value in self.choice.params.items() if name != "budget"}
        derived = {"prune_ratio": self.prune_ratio, "num_views": self.num_views, "description": self.choice.description}
        return {**params, **derived}

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomically(path, json.dumps({**asdict(self), "choice": self.choice.to_json()}).encode())

    @classmethod
    def kept(cls, path: Path) -> TrialResult | None:
        """The inverse of `save`; None where nothing is kept, or not whole."""
        if (document := kept_json(path)) is None:
            return None
        history = tuple(EpochMetrics(**metrics) for metrics in document["history"])
        return cls(**{**document, "choice": choice_from_json(document["choice"]), "history": history})


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
        choice: of labels and recipe.
        shared: what all trials read.
        seed: of the student.
        folder: results are kept here, one JSON file a training.
        device: to train on.
        with_test: read the test set at the end; only confirmed choices do.
        on_rung: called at most `NUM_RUNGS` times with what is known so far, the last time after the result is kept.
    """
    path = result_path(folder, choice, seed)
    earlier = TrialResult.kept(path)
    if earlier is not None and earlier.finished and (earlier.test_accuracy is not None or not with_test):
        on_rung(earlier)
        return earlier
    training = _Training(choice, shared, seed, path, device, with_test, on_rung)
    try:
        return training.run()
    except DivergedError:
        # A bad choice is no broken sweep: it keeps the accuracy that its student has.
        return training.keep(accuracy(training.student, shared.validation), finished=True)


class _Training:
    """One student on a choice's labels; what is known of it is kept at every rung."""

    def __init__(
        self,
        choice: Choice,
        shared: Shared,
        seed: int,
        path: Path,
        device: torch.device,
        with_test: bool,
        on_rung: Callable[[TrialResult], None],
    ) -> None:
        self._start = time.perf_counter()
        self._choice, self._shared, self._seed, self._path = choice, shared, seed, path
        self._with_test, self._on_rung = with_test, on_rung
        self._labels = choice.labels(shared)
        self._recipe = choice.recipe(shared)
        self._images = choice.images(shared)
        self._views = _views(self._images, self._labels, shared, self._recipe, device)
        self._history: list[EpochMetrics] = []
        self.student = Student(self._recipe, self._images.num_classes, seed)

    def run(self) -> TrialResult:
        """Train to the end; the last result."""
        epochs = train(
            self.student,
            self._views,
            self._recipe,
            seed=self._seed,
            validation=self._shared.rung_images,
            evaluate_every=epochs_between_rungs(self._recipe.epochs),
            checkpoint=self._path.with_suffix(".checkpoint"),
        )
        for metrics in epochs:
            self._history.append(metrics)
            if metrics.val_accuracy is None:
                continue
            finished = metrics.epoch + 1 == self._recipe.epochs
            val_accuracy = self._of_whole_validation_set(metrics.val_accuracy) if finished else metrics.val_accuracy
            result = self.keep(val_accuracy, finished)
        return result

    def keep(self, val_accuracy: float, finished: bool) -> TrialResult:
        """Write what is known so far, and tell of it."""
        result = TrialResult(
            choice=self._choice,
            seed=self._seed,
            label_bytes=self._labels.label_bytes,
            image_bytes=self._images.image_bytes,
            num_views=self._labels.num_views,
            prune_ratio=self._labels.prune_ratio,
            val_accuracy=val_accuracy,
            test_accuracy=accuracy(self.student, self._shared.test) if finished and self._with_test else None,
            seconds=time.perf_counter() - self._start,
            finished=finished,
            history=tuple(self._history),
        )
        result.save(self._path)
        self._on_rung(result)
        return result

    def _of_whole_validation_set(self, of_rung: float) -> float:
        """The last epoch's accuracy, measured again where rungs see a part of the validation set."""
        validation = self._shared.validation
        if self._shared.rung_images is validation:
            return of_rung
        val_accuracy = accuracy(self.student, validation)
        self._history[-1] = replace(self._history[-1], val_accuracy=val_accuracy)
        return val_accuracy


def _views(images: ImageSet, chosen: ChosenLabels, shared: Shared, recipe: Recipe, device: torch.device) -> ViewDataset:
    """What a student sees: the views of the chosen labels; without any, as many unmixed views of the images."""
    if chosen.labels is None:
        spec = shared.master.labels.spec
        return ViewDataset.hard(images, replace(spec.view_rule, mix="none"), spec.seed, recipe.epochs, device)
    return ViewDataset.of_recipe(images, chosen.labels, recipe, device)
