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
from rich.table import Table

from cli.option_groups import arguments_of, signature_of
from cli.option_names import with_option_names
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


def facts(document: dict[str, Any]) -> Table:
    """A document as a table of two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in document.items():
        table.add_row(key.replace("_", " "), value if isinstance(value, str) else str(value))
    return table


def command(function: Callable[..., Answer]) -> Callable[..., None]:
    """Make a typer command of a function that returns an `Answer`: adds --json and --debug, prints, sets exit codes.

    While the function runs, everything that a library writes to stdout goes to stderr. An argument that is an
    `OptionGroup` is as many options.
    """
    return command_listing("")(function)


def command_listing(order: str) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """`command` for a function whose --help lists some options in another order than its arguments, and those first."""

    def decorate(function: Callable[..., Answer]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            context, as_json, debug = values.pop("context"), values.pop("json_"), values.pop("debug")
            try:
                with _stdout_to_stderr(), _terminate_as_interrupt():
                    answer = function(**arguments_of(function, values))
            except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit
                resume = shlex.join(["lpqld", *sys.argv[1:]])
                _stop(f"interrupted; everything finished so far is kept. To go on, run: {resume}", INTERRUPTED, debug)
            except LpqldError as error:
                _stop(f"error: {with_option_names(str(error), context)}", error.exit_code, debug)
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

        parameters = [*signature_of(function, order), *_COMMON]
        del run.__wrapped__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


# What every command takes besides its own.
_COMMON = [
    inspect.Parameter("json_", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
    inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug),
    inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
]


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
        real_stdout = os.dup(stdout.fileno())
        os.dup2(stderr.fileno(), stdout.fileno())
    except (OSError, ValueError, AssertionError):  # no real stdout, as under some test runners
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(real_stdout, stdout.fileno())
        os.close(real_stdout)


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
