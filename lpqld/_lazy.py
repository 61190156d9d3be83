"""Loads what a room offers when it is first asked for.

A room's `__init__` imports the names that it offers for type checkers only:

    from lpqld._lazy import lazily

    if TYPE_CHECKING:
        from lpqld.storage.files import fingerprint

    __getattr__, __dir__, __all__ = lazily(__name__, __file__)

So whoever imports one name waits for the modules behind it, and for no others: `lpqld --help` loads no torch, and a
worker of Ray no mlflow. The names stand in one place, where people, type checkers and this module read them.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def lazily(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that offers what its `file` imports from its own modules."""
    offered = offered_names(package, file)
    names = sorted(offered)

    def load(name: str) -> object:
        if name not in offered:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(offered[name]), name)
        setattr(sys.modules[package], name, value)  # the next time Python finds it by itself
        return value

    return load, lambda: names, names


def offered_names(package: str, file: str) -> dict[str, str]:
    """The names that the `__init__` of a package offers, each with the module that defines it."""
    return {
        alias.name: statement.module
        for statement in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.module.startswith(f"{package}.")
        for alias in statement.names
        if f"{package}._lazy" != statement.module
    }
