"""Fields of a recipe that describe themselves: a line about each, the values that are valid, how JSON holds them.

A recipe is a frozen dataclass whose fields are made by `setting`:

    epochs: int = setting(300, "Passes over the images.", minimum=1)

Whoever offers recipes to people, as a command line does, reads the rest with `setting_of`. This module loads no
numerical library, so that it can be read before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from lpqld.errors import ConfigError

_KEY = "setting"  # in a field's metadata; pydantic reads metadata too, and has no such key


@dataclass(frozen=True)
class Rule:
    """Which values are valid.

    Attributes:
        words: what follows the field's name in a message, such as "must be above 0".
        holds: whether a value is valid.
    """

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """What a field says of itself, besides its name, type and default.

    Attributes:
        about: one line for whoever chooses a value; None where only files set it.
        minimum: the smallest number that an option of this field takes.
        rule: which values are valid by themselves; what depends on other fields is the recipe's to check.
        later: whether the field came after the first manifests: JSON holds it only where it is not the default.
    """

    about: str | None = None
    minimum: float | None = None
    rule: Rule | None = None
    later: bool = False


def setting(
    default: Any,
    about: str | None = None,
    *,
    minimum: float | None = None,
    rule: Rule | None = None,
    later: bool = False,
) -> Any:
    """A dataclass field with its `Setting`."""
    return field(default=default, metadata={_KEY: Setting(about, minimum, rule, later)})


def setting_of(described: Field[Any]) -> Setting:
    """What a field says of itself; nothing where it was not made by `setting`."""
    found: Setting = described.metadata.get(_KEY, Setting())
    return found


def one_of(*values: str) -> Rule:
    """One of some words, such as "must be auto, float32 or bfloat16"."""
    *others, last = values
    return Rule(f"must be {', '.join(others)} or {last}", lambda value: value in values)


def check_settings(recipe: Any, prefix: str = "", shown: Callable[[Any], str] = repr) -> None:
    """Refuse values that are not valid by themselves.

    Args:
        recipe: a dataclass.
        prefix: of the field's name in messages.
        shown: how messages write a value.

    Raises:
        ConfigError: naming the first such field, its rule and its value.
    """
    for each in fields(recipe):
        rule, value = setting_of(each).rule, getattr(recipe, each.name)
        if rule is not None and not rule.holds(value):
            raise ConfigError(f"{prefix}{each.name} {rule.words}, found {shown(value)}")


def settings_json(recipe: Any) -> dict[str, Any]:
    """A recipe as JSON values, tuples as lists, without later fields that are at their default."""
    left_out = {each.name for each in fields(recipe) if _is_left_out(each, getattr(recipe, each.name))}
    document = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()}
    return {key: value for key, value in document.items() if key not in left_out}


def settings_values(document: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a recipe from its JSON: lists become tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


def _is_left_out(described: Field[Any], value: object) -> bool:
    return setting_of(described).later and value == described.default
