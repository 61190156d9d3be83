"""Options from the fields of a recipe: their help, bounds and types are said where the fields are."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from cli.option_groups import OptionGroup, Parser
from lpqld.errors import ConfigError
from lpqld.storage import setting_of

# What people type is shorter than what a field is called.
OPTION_OF = {"architecture": "--arch", "source": "--teacher"}


def options_of(
    recipe: type, make: Callable[[dict[str, Any]], Any] = dict, needed: str | None = None, **others: Any
) -> OptionGroup:
    """An option for every field that says what it is about; one that is not given leaves the field as it is.

    Args:
        recipe: a dataclass with fields made by `lpqld.storage.setting`.
        make, needed: as in `OptionGroup`.
        others: annotations of options that the fields do not describe, by field; these come first.
    """
    hints = get_type_hints(recipe)
    described = {
        field.name: _option(field.name, hints[field.name], setting_of(field).about, setting_of(field).minimum)
        for field in fields(recipe)
        if setting_of(field).about is not None
    }
    return OptionGroup({**others, **described}, make, needed)


def option_of(name: str) -> str:
    """The option of a field."""
    return OPTION_OF.get(name, f"--{name.replace('_', '-')}")


def parse_triple(text: str, option: str) -> tuple[float, float, float]:
    """Three numbers, one per channel, or one for all.

    Raises:
        ConfigError: anything else.
    """
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ConfigError(f"{option} {text!r}: expected three numbers, such as 0.485,0.456,0.406")
    return values[0], values[1], values[2]


def _option(name: str, hint: Any, about: str | None, minimum: float | None) -> Any:
    option = typer.Option(option_of(name), help=about, min=minimum, show_default=False)
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(get_origin(each) is tuple for each in types):
        return Annotated[str | None, option, Parser(partial(parse_triple, option=option_of(name)))]
    kind = next((each for each in (bool, int, float, Path) if each in types), str)
    return Annotated[kind | None, option]
