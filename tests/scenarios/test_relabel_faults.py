"""A relabel job that meets faults ends with the bytes of one that does not, and repeats no more than was in flight."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lpqld.errors import ConfigError, DataError, LpqldError
from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import LabelSet
from lpqld.labels.manifest import MANIFEST_FILE
from lpqld.labels.relabel import Labeler, specify
from lpqld.labels.shards import shard_file
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.rule import ViewRule
from sweeps.jobs.relabel_shards import relabel
from tests.conftest import CHECKOUT, command_environment
from tests.scenarios.faults import Trapped, lay, num_batches

CPU = torch.device("cpu")
RULE = ViewRule(crop_scale=(0.6, 1.0), flip=False)
SHARDS, BATCHES = 6, 2  # in the job; in a shard

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(2, seed=0)


@pytest.fixture
def traps(tmp_path) -> Path:
    folder = tmp_path / "traps"
    folder.mkdir()
    return folder


@pytest.fixture
def teacher(traps) -> Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Teacher(Trapped(build("convnet", 10), traps), TeacherSpec("convnet", 10, 8))


@pytest.fixture
def spec(teacher, images):
    return specify(teacher, images, RULE, views_per_image=30, seed=0, batch_size=50, shard_views=100, device=CPU)


@pytest.fixture
def clean(teacher, images, spec, traps) -> dict[str, bytes]:
    """The shards as this process makes them, on one thread as a Ray worker does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    labeler = Labeler(teacher, images, RULE, 0, CPU)
    made = {shard_file(index): labeler.shard(spec, index) for index in range(SHARDS)}
    torch.set_num_threads(before)
    (traps / "batches").unlink()
    return made


def check_whole(folder: Path, clean: dict[str, bytes]) -> None:
    """The shards, the manifest, and nothing else; every byte as it should be."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found.pop(MANIFEST_FILE)
    assert found == clean
    LabelSet.open(folder).verify()


def check_no_part_is_visible(folder: Path, clean: dict[str, bytes]) -> None:
    for path in folder.glob("labels-*"):
        assert path.read_bytes() == clean[path.name]


class TestWhatPasses:
    def test_a_worker_killed_once_and_an_error_once(self, teacher, images, spec, clean, traps, tmp_path):
        lay(traps, "kill")
        lay(traps, "oserror")
        relabel(teacher, images, spec, tmp_path / "labels")
        check_whole(tmp_path / "labels", clean)
        assert num_batches(traps) <= (SHARDS + 2) * BATCHES, "two shards were begun twice"
        assert len(set((traps / "batches").read_text().split())) == 3, "two workers, and one in the place of the lost"

    def test_two_jobs_at_once_in_one_folder(self, teacher, images, spec, clean, tmp_path):
        with ThreadPoolExecutor() as pool:
            jobs = [pool.submit(relabel, teacher, images, spec, tmp_path / "labels", workers=1) for _ in range(2)]
        assert all(job.result().num_bytes for job in jobs)
        check_whole(tmp_path / "labels", clean)


class TestWhatDoesNotPass:
    def test_a_worker_lost_again_and_again_ends_the_job_and_the_shard_is_named(
        self, teacher, images, spec, traps, tmp_path
    ):
        lay(traps, "kill", 20)
        with pytest.raises(LpqldError, match=r"labels-0000\d\.lpqld: the worker that made it was lost 3 times"):
            relabel(teacher, images, spec, tmp_path / "labels", workers=1)
        assert 3 <= num_batches(traps) <= 6, "another shard waits at the worker, and has its tries too"
        assert not list((tmp_path / "labels").glob("labels-*"))

    def test_an_error_that_stays_is_tried_three_times(self, teacher, images, spec, clean, traps, tmp_path):
        lay(traps, "oserror", 20)
        with pytest.raises(LpqldError, match=r"labels-0000\d\.lpqld failed 3 times, at last with OSError: the network"):
            relabel(teacher, images, spec, tmp_path / "labels", workers=1)
        # The next shard may have begun before the job ended.
        assert 3 <= num_batches(traps) <= 6
        check_no_part_is_visible(tmp_path / "labels", clean)

    def test_a_mistake_is_not_tried_again(self, images, traps, tmp_path):
        network = build("convnet", 10)
        with torch.no_grad():
            next(iter(network.parameters())).fill_(float("nan"))
        broken = Teacher(Trapped(network, traps), TeacherSpec("convnet", 10, 8))
        spec = specify(broken, images, RULE, views_per_image=10, seed=0, batch_size=200, device=CPU)
        assert spec.num_shards == 1
        with pytest.raises(DataError, match="not finite"):
            relabel(broken, images, spec, tmp_path / "labels")
        assert num_batches(traps) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for four files of this job; to be told how large it is to be."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str, *options: str) -> int:
        line = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
        return subprocess.run(line, capture_output=True, check=False).returncode

    if os.geteuid() != 0 or mount("16k"):
        pytest.skip("a file system can be mounted here only by root")
    yield folder, lambda size: mount(size, "remount")
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_says_so_and_the_job_goes_on_where_there_is_space(teacher, images, spec, clean, traps, small_disk):
    disk, resize = small_disk
    with pytest.raises(ConfigError, match=r"cannot write .*: No space left on device.*run the same command again"):
        relabel(teacher, images, spec, disk / "labels", workers=1)
    kept = {path.name: path.stat().st_mtime_ns for path in (disk / "labels").glob("labels-*")}
    assert 1 <= len(kept) < SHARDS
    check_no_part_is_visible(disk / "labels", clean)
    (traps / "batches").unlink()
    assert resize("1m") == 0
    relabel(teacher, images, spec, disk / "labels", workers=1)
    check_whole(disk / "labels", clean)
    assert num_batches(traps) == (SHARDS - len(kept)) * BATCHES, "only what was missing"
    assert kept == {name: (disk / "labels" / name).stat().st_mtime_ns for name in kept}


def run_on_nodes(*line: object) -> dict:
    """`tests/scenarios/node_loss.py`, which starts a cluster of several nodes of its own, and its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenarios.node_loss", *map(str, line)],
        cwd=CHECKOUT,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def test_a_node_lost_midway(clean, traps, tmp_path):
    """Two nodes with a GPU each (made up: the work is done on the CPU); one is lost, and with it a shard in flight."""
    (traps / "slow").write_text("0.3")
    found = run_on_nodes("relabel", traps, tmp_path / "labels")
    check_whole(tmp_path / "labels", clean)
    assert found == {"gpus": 2, "gpus_after": 1}
    assert SHARDS * BATCHES <= num_batches(traps) <= (SHARDS + 1) * BATCHES, "one shard was begun twice"


@pytest.mark.slow
def test_a_node_lost_in_a_sweep(tmp_path):
    """Trials go on elsewhere, finished ones are not repeated, the front and the MLflow runs are complete."""
    found = run_on_nodes("sweep", tmp_path / "runs", tmp_path / "labels")
    assert found["finished_before"], "trials had finished when the node was lost"
    assert found["changed"] == []
    assert found["nodes_after"] == 1
    assert found["results"] == found["runs"] > len(found["finished_before"])
    assert found["statuses"] == ["FINISHED"]
    assert found["budgets"] == [3000, 12000]
    assert found["seeds"] == [2] * found["confirmed"]
