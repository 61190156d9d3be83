"""The benchmark of codecs runs on a few made-up labels, and notices a codec that gives back others."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpqld.codecs import Logits
from lpqld.codecs.topk import TopK
from tests.checks import random_logits
from tests.conftest import CHECKOUT, command_environment

BENCHMARKS = CHECKOUT / "benchmarks"


def run(*arguments: object, data: Path, script: str = "codecs.py") -> subprocess.CompletedProcess[str]:
    """A benchmark, with shared data at `data`."""
    line = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    environment = {**command_environment(), "LPQLD_SHARED_DATA": str(data), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=1200, check=False)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What it says as JSON without any data."""
    done = run("--json", "--views", 48, "--repeats", 1, data=tmp_path_factory.mktemp("empty"))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_it_states_the_machine_and_the_labels(document):
    assert document["hardware"]["cpu"]
    assert document["hardware"]["threads"] == 1
    assert {"python", "numpy", "torch", "pyarrow", "lpqld", "constriction"} <= set(document["versions"])
    assert len(document["date"]) == 10
    assert document["labels"]["source"].startswith("made up")
    assert document["labels"]["num_views"] == 48


def test_every_case_has_sizes_and_rates(document):
    assert [(case["num_classes"], case["k"]) for case in document["cases"]] == [(1000, 50), (1000, 10), (10450, 200)]
    for case in document["cases"]:
        size, order0 = case["size"], case["size"]["order0_bytes_per_view"]
        assert size["ours_to_order0"] == pytest.approx(size["ours_bytes_per_view"] / order0["total"])
        assert order0["total"] == pytest.approx(order0["ids"] + order0["values"])
        assert size["reference_published_bytes_per_view"] in (236, 76, 903)
        rows = case["side_by_side"]
        assert rows[0]["name"] == "lpqld TopK"
        for start in ("torch.save", "fixed-width", "Parquet", "zstd level 3", "zstd level 19", "constriction"):
            assert any(row["name"].startswith(start) for row in rows), start
        for row in rows:
            assert "skipped" in row or min(value for key, value in row.items() if key != "name") > 0
        for task in ("encode_from_all_logits", "decode"):
            rates = case["speed"][f"{task}_views_per_second"]
            assert rates["ratio"] == pytest.approx(rates["ours"] / rates["reference"])


def test_the_parts_of_a_label_set_add_up(document):
    *parts, total = document["fixed_cost"]["bytes"].values()
    assert sum(parts) == total
    assert sum(document["fixed_cost"]["share_of_total"].values()) == pytest.approx(1)


def test_tables_for_a_reader(tmp_path):
    file = tmp_path / "labels.npz"
    np.savez(file, logits=random_logits(48, 1000).astype(np.float16))
    done = run("--logits", file, "--views", 32, "--repeats", 1, data=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "32 labels, from labels.npz" in done.stdout
    assert "10,450 classes, top 200, step 0.25" in done.stdout


@pytest.fixture
def kept_labels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's own module of that name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("kept_labels")


def test_labels_that_come_back_changed_are_refused(kept_labels):
    logits, step = random_logits(20, 100), 0.25
    kept = kept_labels.Kept.of(logits, 10, step)
    back = TopK(10, step).decode(TopK(10, step).encode(logits), num_views=20, num_classes=100)
    shifts = np.arange(20, dtype=np.float32)[:, None]
    kept_labels.check_decoded(kept, Logits(back.ids, back.values + shifts))
    ids, values, exchanged = back.ids.copy(), back.values.copy(), back.ids.copy()
    ids[3, 5] = np.setdiff1d(np.arange(100), ids[3])[0]
    values[3, 5] += 2 * step
    exchanged[3, [0, 1]] = exchanged[3, [1, 0]]
    for changed, reason in (
        (Logits(ids, back.values), "k largest"),
        (Logits(back.ids, values), "spread over"),
        (Logits(exchanged, back.values), "spread over|argmax"),
    ):
        with pytest.raises(ValueError, match=reason):
            kept_labels.check_decoded(kept, changed)
