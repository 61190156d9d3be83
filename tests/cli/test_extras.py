"""What a plain installation does: label sets are used without Ray; what needs it says in one line what to install."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.extras import SWEEP_PACKAGES
from lpqld.codecs import TopK
from lpqld.images import ImageSet
from lpqld.labels import encode
from tests.checks import made_up_labels
from tests.conftest import CHECKOUT, Finished, command_environment

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Callable[..., Finished]:
    """The command line where everything but the extra's packages is installed."""
    packages = tmp_path_factory.mktemp("packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(SWEEP_PACKAGES) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    environment = {**command_environment(), "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(packages)])}

    def run(*arguments: object) -> Finished:
        # With -S Python sees nothing that is installed but what is linked above.
        line = [sys.executable, "-S", "-m", "cli.main", *map(str, arguments)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900, check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of digits, and labels of them."""
    folder = tmp_path_factory.mktemp("plain")
    images = ImageSet.open("digits:train").sample_per_class(3, 0)
    images.write(folder / "images")
    encode(made_up_labels(images), TopK(3, 0.25)).write(folder / "labels")
    return folder


def test_plan_inspect_verify_compress_and_export(plain, folder):
    labels, smaller = folder / "labels", folder / "smaller"
    assert plain("plan", "digits", "--json").document["num_views"] > 0
    assert plain("inspect", labels, "--json").document["num_images"] == 30
    document = plain("compress", labels, smaller, "--prune-ratio", "0.5", "--k", "2", "--json").document
    assert document["num_views"] == 60
    assert plain("verify", smaller).exit_code == 0
    images = ("--images", folder / "images")
    exported = plain("export", smaller, "--out", folder / "exported", "--format", "parquet", *images)
    assert exported.exit_code == 0, exported.stderr


def test_students_are_those_that_ray_trains(plain, folder, lpqld):
    data = ("--images", folder / "images", "--labels", folder / "labels", "--eval", "digits:val")
    line = ("train", *data, "--epochs", 2, "--seeds", 2, "--json")
    here = plain(*line, "--root", folder / "here")
    assert here.document == lpqld(*line, "--root", folder / "ray").document
    (kept,) = (folder / "here" / "train").glob("*.json")
    assert json.loads(kept.read_text()).keys() == {"1", "2"}


@pytest.mark.parametrize(
    "line",
    [
        ("sweep", "digits"),
        ("relabel", "--images", "digits:val", "--teacher", "teacher.safetensors", "--views", "2"),
        ("teacher", "fit", "--images", "digits:val", "--eval", "digits:val", "--arch", "convnet"),
        ("synthesize", "--images", "digits:val", "--teacher", "teacher.safetensors", "--ipc", "2", "--out", "out"),
        ("study", "temperature", "--images", "digits:train", "--eval", "digits:test"),
        ("pareto", "digits"),
        ("ui",),
        ("train", "--images", "digits", "--labels", "LABELS", "--eval", "digits:val", "--workers", "2"),
    ],
    ids=lambda line: line[0],
)
def test_what_needs_the_extra_says_so(plain, folder, line):
    words = [folder / "labels" if word == "LABELS" else word for word in line]
    done = plain(*words, "--root", folder / "runs")
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    (message,) = done.stderr.strip().splitlines()
    assert message.startswith(f"lpqld: error: lpqld {line[0]}")
    assert message.endswith("needs mlflow, optuna, plotly, ray: pip install 'lpqld[sweep]'")
