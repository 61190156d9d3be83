"""The limits of the label-set format, and the checks of values against them."""

from __future__ import annotations

from lpqld.errors import ConfigError
from lpqld.storage import is_plain

MAX_CLASSES, MAX_IMAGES = 2**24, 2**24
MAX_SHARDS, MAX_SHARD_VIEWS = 2**17, 2**20
MAX_SHARD_LOGITS = 2**28  # ids and values of a decoded shard are then at most 2 GiB
MAX_INTEGER = 2**31 - 1
MAX_SEED = 2**64 - 1
_MAX_RECIPE_FIELDS, _MAX_RECIPE_LIST = 64, 16


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no whole number from `low` to `high`.

    Raises:
        ConfigError: naming it.
    """
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, found {value!r}")


def check_recipe(recipe: object) -> None:
    """Refuse a recipe that is not a small object of plain values and short lists of them.

    Raises:
        ConfigError: naming the field.
    """
    if not isinstance(recipe, dict) or len(recipe) > _MAX_RECIPE_FIELDS or not all(map(is_plain, recipe)):
        raise ConfigError(f"recipe must be an object of at most {_MAX_RECIPE_FIELDS} fields")
    if bad := [name for name, value in recipe.items() if not _is_recipe_value(value)]:
        raise ConfigError(f"recipe.{bad[0]} must be text, a number, true, false, or a short list of them")


def _is_recipe_value(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= _MAX_RECIPE_LIST and all(map(is_plain, value))
    return is_plain(value)
