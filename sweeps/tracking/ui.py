"""MLflow's web UI on the results under a root folder, as one process group that ends with us."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from lpqld.errors import ConfigError, LpqldError
from sweeps.tracking.experiment import KIND_TAG, artifact_folder, quiet_environment, tracking_uri

DEFAULT_PORT = 5000
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


def serve(
    root: Path,
    port: int | None = None,
    host: str = "127.0.0.1",
    open_browser: bool = False,
    announce: Callable[[str], None] = print,
) -> int:
    """Serve the results under `root` until Ctrl-C or SIGTERM, then stop the server and all of its processes.

    Args:
        root: the folder of the sweeps. MLFLOW_TRACKING_URI, where it is set, takes its place; an MLflow server named
            there needs no server of ours, so its address is announced and nothing is started.
        port: None takes 5000, or a free one when that is busy.
        host: the address to listen on; anything but a loopback address lets others on the network read and change
            the results.
        open_browser: also open the page in the user's browser.
        announce: called once with the address of the page, when the page is there.

    Returns:
        0, the exit code.

    Raises:
        ConfigError: there are no results, or `port` is busy.
        LpqldError: the server did not start, or stopped by itself.
    """
    uri = tracking_uri(root)
    if uri.startswith(("http://", "https://")):
        announce(uri)
        if open_browser:
            webbrowser.open(uri)
        return 0
    if uri.startswith("sqlite:////") and not Path("/" + uri.removeprefix("sqlite:////")).is_file():
        raise ConfigError(f"no results under {root}: run `lpqld sweep` first, or pass the --root of one that ran")
    chosen = _choose_port(host, port)
    with tempfile.TemporaryFile() as log, _stopped_by_sigterm():
        server = subprocess.Popen(
            _command(root, uri, host, chosen),
            env={**os.environ, **quiet_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            address = f"http://{_in_url(_reachable(host))}:{chosen}"
            _wait_until_healthy(server, address, log)
            page = address + _newest_experiment(uri)
            announce(page)
            if open_browser:
                webbrowser.open(page)
            code = server.wait()
            raise LpqldError(f"MLflow's server stopped by itself with exit code {code}:\n{_tail(log)}")
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)


def _command(root: Path, uri: str, host: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(artifact_folder(root))]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if not _is_address(host) and host != "localhost":
        # MLflow answers only to hosts that it knows: by default loopback and private addresses.
        command += ["--allowed-hosts", f"{host},{host}:{port},localhost,localhost:{port}"]
    return command


def _choose_port(host: str, port: int | None) -> int:
    if port is not None:
        if not _is_free(host, port):
            raise ConfigError(
                f"port {port} on {host} is busy or not allowed: pass another --port, or none to get a free one"
            )
        return port
    return DEFAULT_PORT if _is_free(host, DEFAULT_PORT) else _free_port(host)


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except socket.gaierror as error:
        raise ConfigError(f"{host!r} is no address of this machine: {error.strerror}") from error
    except (OSError, OverflowError):
        return False
    return True


def _free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _reachable(host: str) -> str:
    """Where to reach a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _wait_until_healthy(server: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    # No proxy: the address is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise LpqldError(f"MLflow's server did not start (exit code {server.returncode}):\n{_tail(log)}")
        with contextlib.suppress(OSError, urllib.error.URLError), opener.open(f"{address}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise LpqldError(f"MLflow's server did not answer at {address} within {_START_SECONDS:.0f} s:\n{_tail(log)}")


def _newest_experiment(uri: str) -> str:
    """The page of the sweep that was started last, as the path and fragment of its address."""
    os.environ.update({name: os.environ.get(name, value) for name, value in quiet_environment().items()})
    from mlflow import MlflowClient  # noqa: PLC0415

    experiments = MlflowClient(tracking_uri=uri).search_experiments(
        filter_string=f"tags.`{KIND_TAG}` = 'experiment'", order_by=["last_update_time DESC"], max_results=1
    )
    # The UI has two faces, for language models and for training; a page that does not say shows the first.
    query = "?workflowType=machine_learning"
    return f"/#/experiments/{experiments[0].experiment_id}/runs{query}" if experiments else f"/#/experiments{query}"


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-15:])


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that the server is stopped too; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server's whole process group: politely, then not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        server.wait(_STOP_SECONDS)
    # Helpers of the server may outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
