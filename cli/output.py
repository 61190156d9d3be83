"""The one place that prints: an answer on stdout, everything else on stderr, an exit code for every ending."""

import contextlib
import functools
import inspect
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lpqld.errors import LpqldError

INTERRUPTED = 130
_PLAIN_LINE_SECONDS = 3.0

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Answer:
    """What a command found: a JSON document, the same for a person, and the exit code."""

    document: Any
    text: RenderableType
    exit_code: int = 0


def command(function: Callable[..., Answer]) -> Callable[..., None]:
    """Make a typer command of a function that returns an `Answer`: adds --json and --debug, prints, sets exit codes.

    While the function runs, everything that a library writes to stdout goes to stderr.
    """

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        as_json, debug = arguments.pop("json_"), arguments.pop("debug")
        try:
            with _stdout_to_stderr(), _terminate_as_interrupt():
                answer = function(**arguments)
        except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit
            resume = shlex.join(["lpqld", *sys.argv[1:]])
            _stop(f"interrupted; everything finished so far is kept. To go on, run: {resume}", INTERRUPTED, debug)
        except LpqldError as error:
            _stop(f"error: {error}", error.exit_code, debug)
        except MemoryError:
            _stop("error: out of memory; fewer workers or a smaller batch need less", 1, debug)
        except Exception as error:
            _stop(f"error: {type(error).__name__}: {error}. --debug shows where", 1, debug)
        if as_json:
            sys.stdout.write(json.dumps(answer.document, indent=2, default=str) + "\n")
        else:
            Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False).print(answer.text)
        sys.stdout.flush()
        raise typer.Exit(answer.exit_code)

    signature = inspect.signature(function)
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("json_", Json), ("debug", Debug))
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    del run.__wrapped__
    run.__signature__ = inspect.Signature([*parameters, *extra])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, *extra]}
    return run


def _stop(message: str, exit_code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"lpqld: {message}\n")
    raise typer.Exit(exit_code) from None


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what is written to stdout, by this process and those it starts, to stderr."""
    try:
        stdout, stderr = sys.__stdout__, sys.__stderr__
        assert stdout is not None
        assert stderr is not None
        stdout.flush()
        kept = os.dup(stdout.fileno())
        os.dup2(stderr.fileno(), stdout.fileno())
    except (OSError, ValueError, AssertionError):  # no real stdout, as under some test runners
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, stdout.fileno())
        os.close(kept)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Reporter:
    """Progress on stderr: a bar on a terminal, elsewhere plain lines, at most one every few seconds."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._last = 0.0

    def __enter__(self) -> "Reporter":
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=self._console)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A sentence."""
        self._console.print(text, markup=False, soft_wrap=True)

    def progress(self, phase: str, done: int, total: int) -> None:
        """How much of a phase is done."""
        if self._bars is not None:
            if phase not in self._tasks:
                self._tasks[phase] = self._bars.add_task(phase, total=total)
            self._bars.update(self._tasks[phase], completed=done, total=total)
            return
        now = time.monotonic()
        if done == total or now - self._last >= _PLAIN_LINE_SECONDS:
            self._last = now
            self.say(f"{phase}: {done} of {total}")
