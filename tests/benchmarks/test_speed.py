"""The benchmarks of speed run, on made-up images, and say what they measured; the figures are for quiet machines."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_codecs import run


def measured(script: str, *options: object, data: Path) -> dict[str, Any]:
    """The one case that a benchmark measures with these options and no data."""
    done = run(*options, "--json", script=script, data=data)
    assert done.returncode == 0, done.stderr[-3000:]
    (case,) = json.loads(done.stdout)["cases"]
    return case


def test_relabeling_beside_the_bare_teacher(tmp_path):
    options = ("--only", "resnet18-64", "--rounds", 1, "--views", 100, "--threads", 1)
    case = measured("relabel_speed.py", *options, data=tmp_path)
    assert case["ratio"] == pytest.approx(case["views_per_second"] / case["bare_views_per_second"])
    assert set(case["microseconds_a_view"]) == {"draw", "render", "keep the largest", "encode", "write"}
    assert min(case["microseconds_a_view"].values()) > 0
    assert case["seconds_to_first_labels"] > 0


def test_the_data_path_beside_the_fields_way(tmp_path):
    options = ("--size", 32, "--images", 100, "--rounds", 1, "--workers", 1, "--no-network")
    case = measured("data_path.py", *options, data=tmp_path)
    assert [row["task"] for row in case["rows"]] == ["relabel", "replay"]
    for row in case["rows"]:
        assert row["ratio"] == pytest.approx(row["views_per_second"] / row["field_views_per_second"])
        # An image at a time in PIL is several times as slow, on any machine.
        assert row["ratio"] > 1


def test_training_beside_the_bare_step(tmp_path):
    case = measured("train_speed.py", "--only", "convnet-8", "--rounds", 1, "--steps", 2, "--threads", 1, data=tmp_path)
    assert case["ratio"] == pytest.approx(case["views_per_second"] / case["bare_views_per_second"])
    assert case["ratio_with_calibration"] < case["ratio"]
    parts = case["microseconds_a_view"]
    assert {"views and labels", "targets", "divergence", "optimizer", "calibration"} <= set(parts)
    assert min(parts.values()) > 0


def test_precisions_and_layouts_take_turns(tmp_path):
    case = measured("step_precision.py", "--case", "convnet,8,4", "--rounds", 1, data=tmp_path)
    assert case["case"] == "convnet,8,4"
    assert set(case["milliseconds"]) == {
        f"{precision}, {layout}" for precision in ("float32", "bfloat16") for layout in ("contiguous", "channels last")
    }
    assert min(case["milliseconds"].values()) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told to keep memory")
def test_steps_with_memory_that_stays_beside_such_where_it_is_returned(tmp_path):
    case = measured("kept_memory.py", "--case", "convnet,16,8", "--rounds", 1, data=tmp_path)
    assert case["speed"] == pytest.approx(case["returned_milliseconds"] / case["kept_milliseconds"])
    assert case["kept_peak_mib"] < 2 * case["returned_peak_mib"]


def test_recovering_beside_the_bare_passes(tmp_path):
    options = ("--only", "cifar_resnet20-32px-10", "--rounds", 1, "--iterations", 1, "--json")
    done = run(*options, script="recover_speed.py", data=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    (case,) = document["cases"]
    assert case["ratio"] == pytest.approx(case["images_per_second"] / case["bare_images_per_second"])
    per_image = [row["microseconds_an_image_and_iteration"] for row in document["growth"]]
    assert max(per_image) < 5 * min(per_image), (
        "linear in classes and images per class, but for batches of another size"
    )
