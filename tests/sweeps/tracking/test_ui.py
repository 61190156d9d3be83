"""MLflow's UI as a user meets it: served by `sweeps.tracking.ui.serve`, read in a real browser.

LPQLD_SCREENSHOT_DIR keeps the screenshots; `look_at(root, experiment, folder)` takes them of any root, and so does
`python tests/sweeps/tracking/test_ui.py ROOT EXPERIMENT FOLDER`.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lpqld.errors import ConfigError
from sweeps.report import tables as report
from sweeps.report.result import Accuracy, Point, SweepResult
from sweeps.tracking import ui
from sweeps.tracking.experiment import Experiment
from sweeps.tracking.tracker import Tracker

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVE = "import sys; from pathlib import Path; from sweeps.tracking.ui import serve; sys.exit(serve(Path(sys.argv[1]), announce=lambda url: print(url, flush=True)))"  # noqa: E501


def browser_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(browser_path() is None, reason="no chromium or google-chrome on PATH")


def make_root(root: Path, experiment: str = "digits") -> str:
    """A sweep's records as the driver writes them: a parent, two trials, a report. Returns the parent's run id."""
    rows = [(5_000, 4_950, [0.86, 0.87], 0.87, 3), (20_000, 19_700, [0.93, 0.94], 0.935, 5)]
    points = [
        Point(f"t{k}", budget, size, 90_000, Accuracy.of(test), val, {"k": k, "bits": 6, "temperature": "20:2:step"})
        for budget, size, test, val, k in rows
    ]
    hard = Point("hard_labels", None, 0, 90_000, Accuracy.of([0.79, 0.8]), 0.79, {})
    every = Point("all_labels", None, 2_400_000, 90_000, Accuracy.of([0.957, 0.96]), 0.96, {"temperature": "20"})
    result = SweepResult(
        experiment, str(root), {"accuracy": 0.98}, report.mark_front(points), (hard, every), {"search": 60.0}, 2_400_000
    )
    tracker = Tracker(Experiment.open(root, experiment))
    parent = tracker.start_parent({"preset": "digits", "seed": 0}, {})
    for point in points:
        history = [
            {"epoch": epoch, "loss": 2 / (epoch + 1), "student_temperature": 20 - epoch, "teacher_temperature": 20.0}
            for epoch in range(12)
        ]
        tracker.log_trial(point.trial_id, f"k={point.config['k']}", point.config, history, {"val": point.val_accuracy})
    report.write_report(result, root / experiment)
    tracker.log_report(result, root / experiment)
    tracker.finish()
    return parent


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`serve` in a process of its own, as the command runs it: the announced address and the process."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", SERVE, str(root)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        address = lines.get(timeout=600).strip()
        assert address, f"serve ended with exit code {process.wait()}"
        yield address, process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(300)


def look_at(root: Path, experiment: str, folder: Path) -> dict[str, Any]:
    """Serve `root`, open the sweep's parent run and its front in a browser, leave screenshots in `folder`."""
    from mlflow import MlflowClient
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    seen: dict[str, Any] = {}
    found = MlflowClient(tracking_uri=f"sqlite:///{root.resolve()}/mlflow.db").get_experiment_by_name(experiment)
    assert found is not None, f"no experiment {experiment!r} under {root}"
    experiment_id = found.experiment_id
    with served(root) as (address, _), sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=browser_path(),
            args=CHROMIUM_ARGUMENTS,
            viewport={"width": 1440, "height": 900},
        )
        foreign: list[str] = []
        page = context.pages[0]
        server = address.split("/#")[0]
        page.on(
            "request", lambda r: foreign.append(r.url) if not r.url.startswith((server, "data:", "blob:")) else None
        )
        page.set_default_timeout(120_000)
        seen["announced"] = address
        page.goto(f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning")
        # A panel for asking a language model opens by itself; the choice of face is kept for the pages that follow.
        page.get_by_role("button", name="Close").click()
        page.get_by_text("Model training", exact=True).click()
        named = re.compile(rf"^\s*{re.escape(experiment)}\s*$")
        run_link = page.locator("a[href*='/runs/']").filter(has_text=named).first
        run_link.wait_for()
        seen["runs"] = [link.inner_text() for link in page.locator("a[href*='/runs/']").all()]
        # The trials lie folded under their sweep.
        page.get_by_role("row").filter(has=run_link).get_by_role("button").first.click()
        more_runs = "count => document.querySelectorAll('a[href*=\"/runs/\"]').length > count"
        page.wait_for_function(more_runs, arg=len(seen["runs"]))
        seen["unfolded"] = [link.inner_text() for link in page.locator("a[href*='/runs/']").all()]
        page.screenshot(path=str(folder / "ui_runs.png"))
        run_link.click()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("front.png", exact=True).first.click()
        loaded = "[...document.images].filter(i => i.src.startsWith('blob:')).map(i => i.naturalWidth).find(w => w > 0)"
        seen["image_width"] = page.wait_for_function(loaded).json_value()
        page.wait_for_timeout(500)
        page.screenshot(path=str(folder / "ui_front.png"))
        page.get_by_text("front.html", exact=True).first.click()
        chart = page.frame_locator("iframe").locator(".main-svg").first
        chart.wait_for()
        page.screenshot(path=str(folder / "ui_interactive.png"))
        page.get_by_text("front_table.json", exact=True).first.click()
        page.get_by_text("Labels / images").first.wait_for()
        page.screenshot(path=str(folder / "ui_table.png"))
        seen["foreign_requests"] = foreign
        context.close()
    return seen


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        path = tmp_path_factory.mktemp("ui")
        make_root(path)
        yield path


@needs_browser
def test_browser_shows_the_sweep_its_trials_and_its_front_without_a_network(root: Path, tmp_path: Path) -> None:
    seen = look_at(root, "digits", Path(os.environ.get("LPQLD_SCREENSHOT_DIR") or tmp_path))
    assert seen["announced"].endswith("/#/experiments/1/runs?workflowType=machine_learning")
    assert seen["runs"] == ["digits"]
    assert sorted(seen["unfolded"]) == ["digits", "k=3", "k=5"]
    assert seen["image_width"] == 1280
    assert seen["foreign_requests"] == []


def group(process_id: int) -> list[int]:
    """The processes whose parent is `process_id`, and theirs."""
    import psutil

    return [child.pid for child in psutil.Process(process_id).children(recursive=True)]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_busy_default_port_is_stepped_over_and_nothing_outlives_a_signal(root: Path, sent: signal.Signals) -> None:
    import psutil

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # busy already: as good
            stack.enter_context(socket.create_server(("127.0.0.1", ui.DEFAULT_PORT)))
        url, us = stack.enter_context(served(root))
        assert f":{ui.DEFAULT_PORT}/" not in url
        port = int(url.split("/")[2].split(":")[1])
        helpers = group(us.pid)
        assert helpers
        us.send_signal(sent)
        assert us.wait(300) == 0
        deadline = time.monotonic() + 60
        while any(map(psutil.pid_exists, helpers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in helpers if psutil.pid_exists(pid)]
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_busy_port_that_was_asked_for_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="is busy"):
        ui.serve(root, port=taken.getsockname()[1])


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_refused(root: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="another --port"):
        ui.serve(root, port=port)


def test_a_root_without_results_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="run `lpqld sweep` first"):
        ui.serve(tmp_path)


def test_a_server_named_by_the_environment_is_only_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    announced: list[str] = []
    assert ui.serve(tmp_path, announce=announced.append) == 0
    assert announced == ["http://tracking.example:5000"]


if __name__ == "__main__":
    look_at(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
