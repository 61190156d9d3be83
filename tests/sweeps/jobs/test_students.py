"""Students on Ray: several at once, or one in several processes."""

import json
from dataclasses import replace

import pytest

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.labels.compress import encode
from lpqld.progress import SILENT
from sweeps.jobs.student_job import StudentAccuracy, StudentJob, train_students_here
from sweeps.jobs.students import train_students
from tests.heard import Heard


def students(shared, folder, train=train_students, **options) -> list[StudentAccuracy]:
    recipe = replace(shared.recipe, epochs=3, precision="float32")
    labels, validation = shared.master.labels, options.pop("validation", None)
    job = StudentJob(shared.images, labels, shared.validation, recipe, validation=validation)
    return train(job, options.pop("seeds", range(1, 3)), folder, options.pop("progress", SILENT), **options)


def test_two_processes_train_the_student_of_one(small_shared, ray_cluster, tmp_path):
    alone = students(small_shared, tmp_path / "alone", seeds=range(1, 2))
    together = students(small_shared, tmp_path / "together", seeds=range(1, 2), workers=2)
    assert together[0].test == pytest.approx(alone[0].test, abs=0.03)
    (kept,) = (tmp_path / "together").iterdir()
    assert json.loads(kept.read_text()) == {"1": {"test": together[0].test, "validation": None}}


def test_finished_seeds_are_read_and_others_trained(small_shared, ray_cluster, tmp_path):
    first = students(small_shared, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(json.dumps({"1": {"test": 0.123}}))
    heard = Heard()
    again = students(small_shared, tmp_path, progress=heard)
    assert again == [StudentAccuracy(0.123), first[1]]
    assert heard.counts == [("train", 1, 2), ("train", 2, 2)]


def test_without_ray_students_are_the_same(small_shared, ray_cluster, one_thread, tmp_path):
    assert students(small_shared, tmp_path / "here", train_students_here) == students(small_shared, tmp_path / "ray")
    (here,), (there,) = (tmp_path / "here").iterdir(), (tmp_path / "ray").iterdir()
    assert (here.name, json.loads(here.read_text())) == (there.name, json.loads(there.read_text()))


def test_seeds_of_a_damaged_file_are_trained_again(small_shared, ray_cluster, tmp_path):
    first = students(small_shared, tmp_path, seeds=range(1, 2))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:7])
    assert students(small_shared, tmp_path, seeds=range(1, 2)) == first
    assert json.loads(kept.read_text()).keys() == {"1"}


def test_validation_images_are_read_beside_the_test_set(small_shared, ray_cluster, tmp_path):
    test, validation = small_shared.test, small_shared.validation
    ((found),) = students(small_shared, tmp_path, seeds=range(1, 2), validation=test)
    (swapped,) = students(small_shared, tmp_path, seeds=range(1, 2))
    assert found.test == swapped.test, "the same student"
    assert found.validation is not None
    assert found.validation * test.num_images == pytest.approx(round(found.validation * test.num_images))
    assert swapped.validation is None
    assert test.fingerprint != validation.fingerprint


def test_more_processes_than_cpus_are_refused(small_shared, ray_cluster, tmp_path):
    with pytest.raises(ConfigError, match="--workers 3: this cluster has 2 CPUs; choose fewer"):
        students(small_shared, tmp_path, workers=3)


def test_every_option_reaches_the_recipe(small_shared, ray_cluster, in_process, tmp_path):
    small_shared.images.write(tmp_path / "images")
    encode(small_shared.master.labels, TopK(3), num_views=60).write(tmp_path / "labels")
    data = ("--images", tmp_path / "images", "--labels", tmp_path / "labels", "--eval", "digits:val")
    given = {"arch": "convnet", "epochs": 2, "lr": 0.01, "batch_size": 15, "temperature": "4:2:cosine", "ca": "off",
             "optimizer": "sgd", "warmup_epochs": 1, "ema": 0.5, "accumulate": 3, "precision": "float32",
             "weight_decay": 0.2, "hard_every": 2, "hard_weight": 3.0}  # fmt: skip
    line = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = in_process("train", *data, *line, "--seeds", 1, "--root", tmp_path / "runs", "--json")
    given["architecture"] = given.pop("arch")
    assert given.items() <= done.document["recipe"].items()
