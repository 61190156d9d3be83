"""Trials of a node hold images and labels once, however many run at once: measured as PSS of all processes."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch

from lpqld.codecs import Logits, dense_ids
from lpqld.codecs.dense import Dense
from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import Labels
from lpqld.labels.provenance import ImagesRef, TeacherRef
from lpqld.labels.spec import LabelSpec
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.training.recipe import Recipe
from lpqld.views.registry import drawn_by
from sweeps.search.choice import Choice
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.shared import MasterLabels, Shared
from sweeps.search.trial import TrialResult, run_trial
from tests.checks import RULE

NUM_CLASSES = 2000


def made_up_images(num_images: int, size: int = 8) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        pixels=torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8, generator=generator),
        labels=torch.arange(num_images) % NUM_CLASSES,
        class_names=tuple(f"c{number}" for number in range(NUM_CLASSES)),
        ids=np.arange(num_images),
        encoded_bytes=np.full(num_images, 100),
        source="made up",
    )


def made_up_shared(folder: Path) -> Shared:
    """100 MB of labels and 115 MB of images."""
    num_images, views_per_image = 200, 125
    images, num_views = made_up_images(num_images), num_images * views_per_image
    spec = LabelSpec(
        num_images=num_images,
        num_classes=NUM_CLASSES,
        num_views=num_views,
        full_views=views_per_image,
        codec=Dense(),
        views=drawn_by(RULE, 0),
        batch_size=100,
        shard_views=8000,
        images=ImagesRef.of(images),
        teacher=TeacherRef.of(TeacherSpec("made up", NUM_CLASSES), "0" * 64),
    )
    values = np.random.default_rng(0).standard_normal((num_views, NUM_CLASSES), dtype=np.float32).astype(np.float16)
    labels = Labels(spec, Logits(dense_ids(*values.shape), values))
    master = MasterLabels(labels, folder / "sizes")
    return Shared(images, master, made_up_images(500), made_up_images(600_000), Recipe(epochs=2))


def pss_bytes(kind: str) -> dict[int, int]:
    """Bytes of this process and of all that it started, by process: "Anon", its own, or "Shmem", divided among all."""
    found = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        found[process.pid] = sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"Pss_{kind}:"))
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@ray.remote(num_cpus=0)
class Trainer:
    """A process that trains one student, and rests at its first rung until it may go on."""

    def pid(self) -> int:
        return os.getpid()

    def train(self, choice: Choice, data: list[ray.ObjectRef], folder: Path) -> TrialResult:
        def rest(result: TrialResult) -> None:
            (folder / f"resting-{choice.trial_id}").touch()
            wait_for((folder / "go").exists)

        return run_trial(choice, ray.get(data[0]), 0, folder, device=torch.device("cpu"), on_rung=rest)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="PSS is Linux's")
@pytest.mark.usefixtures("ray_cluster")
def test_four_trials_hold_the_data_once(small_shared, tmp_path):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not know where tests are
    choices = [SearchedLabels(budget=10**9, k=20, bits=4, lr=lr) for lr in (0.001, 0.002, 0.003, 0.004)]
    trainers = [Trainer.remote() for _ in choices]
    # A small training first, so that libraries and their buffers are not counted.
    small = [ray.put(replace(small_shared, recipe=replace(small_shared.recipe, epochs=2)).prepared())]
    warm_up = SearchedLabels(budget=6000, k=2, bits=4)
    (tmp_path / "go").touch()
    ray.get([trainer.train.remote(warm_up, small, tmp_path) for trainer in trainers])
    for path in tmp_path.iterdir():
        path.unlink()
    own, common = pss_bytes("Anon"), sum(pss_bytes("Shmem").values())
    shared = made_up_shared(tmp_path)
    data_bytes = shared.master.labels.logits.values.nbytes + shared.images.pixels.nbytes + shared.test.pixels.nbytes
    assert data_bytes > 200e6
    choices[0].labels(shared)  # the first trial of a codec encodes; sizes are on disk then
    data = ray.put(shared.prepared())
    del shared
    trials = [trainer.train.remote(choice, [data], tmp_path) for trainer, choice in zip(trainers, choices, strict=True)]
    wait_for(lambda: len(list(tmp_path.glob("resting-*"))) == len(choices))
    own_now, common_now = pss_bytes("Anon"), sum(pss_bytes("Shmem").values())
    (tmp_path / "go").touch()
    assert all(result.finished for result in ray.get(trials))
    assert data_bytes <= common_now - common < 1.1 * data_bytes
    grown = [own_now[pid] - own[pid] for pid in ray.get([trainer.pid.remote() for trainer in trainers])]
    assert max(grown) < data_bytes / 2, "buffers of the training, and no copy of the data"
