"""The library's messages name arguments, and people who type options read options."""

import ast
import re
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from cli.main import app
from cli.option_names import with_option_names
from tests.conftest import CHECKOUT

GROUP: Any = typer.main.get_command(app)
RAISED = sorted(CHECKOUT.joinpath("lpqld").rglob("*.py"))


def read_in(command: str, message: str) -> str:
    """What a user of a command reads."""
    context: Any = SimpleNamespace(
        command=GROUP.commands[command], info_name=command, find_root=lambda: SimpleNamespace(command=GROUP)
    )
    return with_option_names(message, context)


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("relabel", "pass `architecture`, one of", "pass --arch, one of"),
        ("sweep", "pass `architecture`, one of", "pass --teacher-arch, one of"),
        ("inspect", "pass `classes=FILE` with", "pass --classes FILE with"),
        ("import", "pass `mean` and `std`", "pass --image-mean and --image-std"),
        ("inspect", "pass `mean` and `std`", "pass --mean and --std"),
        ("relabel", "`memory` must be auto", "--image-memory must be auto"),
        ("sweep", "images per class (`n`)", "images per class (--ipc)"),
        ("train", "pass `size` to bring", "pass --size to bring"),  # of other commands
        ("export", "`export_format=parquet`", "--format parquet"),
        ("train", "`relabel` and `export` make label sets", "`lpqld relabel` and `lpqld export` make label sets"),
        ("train", "`image` = encoded bytes, `two words` and `a.b`", "`image` = encoded bytes, `two words` and `a.b`"),
    ],
)
def test_arguments_become_options(command, message, expected):
    assert read_in(command, message) == expected


def texts_of_errors(path) -> list[str]:
    """What a file's errors say, with a word in place of what is filled in."""
    raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    return [_text(part) for node in raised for part in ast.walk(node) if isinstance(part, ast.JoinedStr | ast.Constant)]


def _text(part: ast.JoinedStr | ast.Constant) -> str:
    values = part.values if isinstance(part, ast.JoinedStr) else [part]
    return "".join(str(value.value) if isinstance(value, ast.Constant) else "VALUE" for value in values)


@pytest.mark.parametrize("path", RAISED, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_the_library_names_no_option(path):
    for text in texts_of_errors(path):
        assert not re.search(r"(?<!\w)--[a-z]|`lpqld ", text), text


def test_every_argument_that_the_library_names_is_an_option_somewhere():
    named = {text for path in RAISED for text in texts_of_errors(path) if re.search(r"`[a-z_]+(=\w+)?`", text)}
    assert len(named) > 10
    for text in named:
        assert not re.search(r"`[a-z_]+(=\w+)?`", read_in("relabel", text)), text
