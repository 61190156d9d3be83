"""What all tests share."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# These networks are small: a second thread costs more than it brings, and on busy cores very much more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# For `object_store`, and never for a real one; set before Ray starts, whose workers inherit them.
os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)

# A property's time says how busy the machine is, not whether it holds.
settings.register_profile("lpqld", deadline=None)
settings.load_profile("lpqld")

# A shell without job control has what it starts in the background ignore SIGINT, and commands inherit that from their
# parents. Here they get Ctrl-C as in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).resolve().parent.parent


# Tests that start Ray, a command, a server or a browser, or that train for longer than a unit test may take.
INTEGRATION_FIXTURES = {"ray_cluster", "lpqld", "in_process", "object_store"}
INTEGRATION_FOLDERS = {"scenarios", "benchmarks", "docs", "tracking"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make check` leaves to `make test`, by what a test uses and where it is."""
    for item in items:
        folders = item.path.relative_to(CHECKOUT).parts[1:-1]
        if INTEGRATION_FIXTURES & set(getattr(item, "fixturenames", ())) or INTEGRATION_FOLDERS & set(folders):
            item.add_marker(pytest.mark.integration)
    # Long files first: what comes last is short, so that no process waits long for the other's end.
    long_files = {item.path for item in items if item.get_closest_marker("integration") is not None}
    items.sort(key=lambda item: item.path not in long_files)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for tests: at LPQLD_SHARED_DATA, or at ../shared/data beside the checkout."""
    folder = Path(os.environ.get("LPQLD_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data absent: expected it at {folder}; set LPQLD_SHARED_DATA to where it is")
    return folder


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """All of stdout as one JSON document, from a command that was done."""
        assert self.exit_code == 0, self.stderr[-3000:]
        return json.loads(self.stdout)


def command_environment() -> dict[str, str]:
    """The environment of a command that starts alone: no cluster, no MLflow server, one thread a process."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    return {**inherited, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONFAULTHANDLER": "1"}


def kill_9(process: subprocess.Popen[Any]) -> None:
    """Kill a command as nothing can prevent, and wait until none of its Ray's workers is left to write anything."""
    import psutil

    descendants = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in descendants if not child.name().endswith("Agent")]  # agents linger, and only watch
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=300)
    hanging = [worker for worker in alive if _hangs_in_destructor(worker.pid)]
    for worker in hanging:
        worker.kill()
    psutil.wait_procs(hanging)
    assert set(alive) == set(hanging), "Ray's processes end with their driver"


def _hangs_in_destructor(worker: int) -> bool:
    """Whether a worker of Ray 2.60 has nothing left to write, and is stuck where it destroys its CoreWorkerProcessImpl.

    It was ending by itself when its raylet went, which would have ended it after seconds.
    """
    logs = Path(tempfile.gettempdir()).glob(f"ray/session_*/logs/python-core-worker-*_{worker}.log")
    return any("Destructing CoreWorkerProcessImpl" in log.read_text(errors="replace") for log in logs)


@contextlib.contextmanager
def started(line: Iterable[object], out: Path, err: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, as a terminal starts it; gone at the end whatever a test found."""
    command = [sys.executable, "-m", "cli.main", *map(str, line)]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command, env=command_environment(), stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_9(process)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], err: Path) -> None:
    """Wait for something that `process` does; fail where it ends, or hangs for a quarter of an hour."""
    deadline = time.monotonic() + 900
    while not condition():
        assert process.poll() is None, err.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def exit_code_of(process: subprocess.Popen[bytes], err: Path) -> int:
    """How a command ends; one that hangs for five minutes says where it waits, and fails."""
    try:
        return process.wait(300)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER, every thread's stack goes to stderr
        process.wait(60)
        raise AssertionError(f"it did not end: {err.read_text()[-20_000:]}") from None


@pytest.fixture(scope="session")
def lpqld() -> Callable[..., Finished]:
    """The command line in a process of its own, as a user meets it."""

    def run(*arguments: object, cwd: Path | None = None, timeout: float = 900) -> Finished:
        line = [sys.executable, "-m", "cli.main", *map(str, arguments)]
        done = subprocess.run(
            line, cwd=cwd, env=command_environment(), capture_output=True, text=True, timeout=timeout, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Finished]:
    """The command line inside the test's process: quick, and on the Ray that `ray_cluster` started."""
    from typer.testing import CliRunner

    from cli.main import app

    def run(*arguments: object) -> Finished:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return Finished(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A Ray worker has one thread; sums in another number of them round otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small local Ray that all tests in this process share; `sweeps.cluster.cluster` leaves it as it is."""
    import logging

    import ray

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=300 * 1024**2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small_shared() -> Any:
    """What trials read, small: 30 digits with 40 views each, labelled by a teacher of three epochs."""
    import torch

    from lpqld.codecs import Logits
    from lpqld.codecs.dense import Dense
    from lpqld.images.image_set import ImageSet
    from lpqld.labels.compress import encode
    from lpqld.labels.label_set import Labels
    from lpqld.labels.relabel import Labeler, specify
    from lpqld.models.fit import fit_teacher
    from lpqld.models.fit_recipe import FitRecipe
    from lpqld.models.teacher import Teacher
    from lpqld.training.recipe import Recipe
    from lpqld.views.rule import ViewRule
    from sweeps.search.shared import MasterLabels, RealImages, Shared

    device, rule = torch.device("cpu"), ViewRule(crop_scale=(0.6, 1.0), flip=False)
    train = ImageSet.open("digits:train")
    teacher = Teacher(*fit_teacher(train, FitRecipe("convnet", 3), seed=0))

    def labelled(images: ImageSet) -> Labels:
        spec = specify(teacher, images, rule, views_per_image=40, seed=0, batch_size=100, device=device)
        batches = Labeler(teacher, images, rule, 0, device).batches(0, spec.num_views, 100, Dense())
        return encode(Labels(spec, Logits.concatenate(list(batches))), Dense()).decode()

    images, real = train.sample_per_class(3, seed=0), train.sample_per_class(3, seed=1)
    recipe = Recipe(epochs=20, batch_size=30, temperature="20:2:step", lr=0.004)
    validation, test = ImageSet.open("digits:val"), ImageSet.open("digits:test")
    master = MasterLabels(labelled(images))
    return Shared(images, master, validation, test, recipe, real=RealImages(real, labelled(real)))


@pytest.fixture(scope="session")
def object_store() -> Iterator[Any]:
    """An S3-compatible server with an empty bucket, see `tests.object_store`."""
    from tests.object_store import running_store

    with running_store() as store:
        yield store
