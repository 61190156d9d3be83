"""The benchmark of label codecs runs on made-up labels and digits, and does no training twice."""

import importlib
import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lpqld.images.image_set import ImageSet
from lpqld.labels.fidelity import TEMPERATURES
from lpqld.training.recipe import Recipe
from tests.checks import made_up_labels, random_logits
from tests.conftest import CHECKOUT, command_environment

BENCHMARKS = CHECKOUT / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with its neighbours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("label_codecs")


@pytest.fixture
def experiment(benchmark: ModuleType) -> Any:
    """30 digits with four labels each, and one epoch of training."""
    train = ImageSet.open("digits:train")
    images = train.sample_per_class(3, 0)
    return benchmark.Experiment(
        images=images,
        labels=made_up_labels(images),
        validation=ImageSet.open("digits:val"),
        test=ImageSet.open("digits:test"),
        recipe=Recipe(architecture="convnet", epochs=1, batch_size=15),
        budget=4000,
    )


def test_fidelity_of_every_codec(benchmark, tmp_path):
    file = tmp_path / "labels.npz"
    np.savez(file, logits=random_logits(60, 100).astype(np.float16))
    line = [sys.executable, BENCHMARKS / "label_codecs.py", "--fidelity-only", "--json", "--logits", file]
    done = subprocess.run(
        [*line, "--out", tmp_path / "out"],
        env={**command_environment(), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    fidelity = json.loads(done.stdout)["fidelity"]
    assert json.loads((tmp_path / "out" / "fidelity.json").read_bytes()) == fidelity
    rows = {row["variant"]: row for row in fidelity["rows"]}
    assert list(rows) == [variant.name for variant in benchmark.VARIANTS]
    assert rows["hard"]["bytes_per_view"] == 0
    assert rows["all"]["bytes_per_view"] == 200
    assert set(rows["all"]["to_full_softmax"].values()) == {0.0}
    for row in rows.values():
        assert set(row["to_mr_50"]) == {f"{temperature:g}" for temperature in TEMPERATURES}
        assert all(0 <= value <= 1 for value in [*row["to_mr_50"].values(), *row["to_full_softmax"].values()])
    assert max(rows["mr-50"]["to_mr_50"].values()) < min(rows["mr-5"]["to_mr_50"].values())


def test_each_training_is_done_once(benchmark, experiment, tmp_path, capsys):
    hard, some = benchmark.named(["hard", "mr-5"])
    benchmark.train_all(experiment, (hard, some), range(2), "1/2", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mr-5-seed0.json", "mr-5-seed1.json"]
    benchmark.train_all(experiment, (hard, some), range(1), "0/1", tmp_path)
    assert capsys.readouterr().err.count("test accuracy") == 3
    result = json.loads((tmp_path / "mr-5-seed0.json").read_bytes())
    assert 30 <= result["num_views"] <= 120
    assert 0 < result["label_bytes"] <= experiment.budget
    assert result["setup"]["codec"]["k"] == 5
    rows = benchmark.summary(tmp_path)
    assert [(row["variant"], row["seeds"], row["label_bytes"] > 0) for row in rows] == [
        ("hard", [0], False),
        ("mr-5", [0, 1], True),
    ]
    text = benchmark.as_text({"fidelity": None, "accuracy": rows})
    assert "| hard | 0 | 1.0 |" in text
    assert " ± " in text


def test_a_result_of_another_setup_is_not_taken_for_this_ones(benchmark, experiment, tmp_path):
    (hard,) = benchmark.named(["hard"])
    benchmark.train_all(experiment, (hard,), range(1), "0/1", tmp_path)
    path = tmp_path / "hard-seed0.json"
    result = json.loads(path.read_bytes())
    result["setup"]["recipe"]["epochs"] = 2
    path.write_text(json.dumps(result))
    with pytest.raises(ValueError, match="another setup"):
        benchmark.train_all(experiment, (hard,), range(1), "0/1", tmp_path)


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(benchmark, experiment, tmp_path, shard):
    with pytest.raises(ValueError, match="--shard"):
        benchmark.train_all(experiment, (), range(1), shard, tmp_path)


def test_an_unknown_name_is_refused_with_those_that_there_are(benchmark):
    with pytest.raises(ValueError, match=r"unknown variant 'mr'; choose from hard, all, mr-5"):
        benchmark.named(["mr"])
