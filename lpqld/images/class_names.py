"""Class names: reading lists of them, and matching one list to another by name.

Names are the identity of a class everywhere: an evaluation set and a teacher are brought to the image set's class
order by name. Two ImageNet names are the same class when their WordNet ids are (`n01440764`, `n01440764_tench`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from lpqld.errors import ConfigError, DataError, few
from lpqld.storage import Location

CLASSES_FILE = "classes.json"
_WNID = re.compile(r"(n\d{8})(?:_.*)?", re.DOTALL)


def default_names(num_classes: int) -> tuple[str, ...]:
    """The names of classes that have none: "0", "1", ..."""
    return tuple(str(index) for index in range(num_classes))


def are_default(names: Sequence[str]) -> bool:
    """Whether `names` are only the numbers that stand for no names."""
    return tuple(names) == default_names(len(names))


def are_wordnet(names: Sequence[str]) -> bool:
    """Whether every name begins with a WordNet id, as ImageNet's do."""
    return bool(names) and all(_WNID.fullmatch(name) for name in names)


def _key(name: str) -> str:
    found = _WNID.fullmatch(name)
    return found.group(1) if found else name


def positions(wanted: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Where each name of `wanted` stands in `names`; None for one that is not there."""
    index = {_key(name): position for position, name in enumerate(names)}
    return [index.get(_key(name)) for name in wanted]


def check_unique(names: Sequence[str], where: str) -> tuple[str, ...]:
    """`names` as a tuple.

    Raises:
        DataError: two names are the same class, or there are none.
    """
    keys = [_key(name) for name in names]
    twice = [name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1] if _repeats(keys) else []
    if twice:
        raise DataError(f"{where}: class names must differ, found more than once: {few(twice)}")
    if not names:
        raise DataError(f"{where}: expected class names, found an empty list")
    return tuple(names)


def read_names(path: Location, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The class names in `path`, in label order.

    The file is a JSON list of names, a JSON object of such lists (`{"wnid": [...], "name": [...]}`), or text with one
    name a line. Of several lists, the one that has most of the `wanted` names is taken, else the first of unique names.

    Raises:
        ConfigError: there is no such file.
        DataError: it holds no list of unique names.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: class names must be UTF-8 text, found {error.reason}") from error
    except OSError as error:
        raise ConfigError(f"cannot read class names from {path}: {error.strerror or error}") from error
    lists = _name_lists(path, text)
    unique = [names for names in lists if not _repeats([_key(name) for name in names])] or lists
    if wanted is not None:
        unique.sort(key=lambda names: sum(place is None for place in positions(wanted, names)))
    return check_unique(unique[0], str(path))


def timm_names(info: str) -> tuple[str, ...]:
    """WordNet ids of one of timm's ImageNet label lists, such as `imagenet-1k` or `imagenet-22k`, in label order.

    Raises:
        ConfigError: timm has no such list.
    """
    from timm.data import ImageNetInfo  # noqa: PLC0415  (two seconds that only these lists should cost)

    try:
        return tuple(ImageNetInfo(info).label_names())
    except (AssertionError, KeyError) as error:
        raise ConfigError(
            f"`classes={info}`: expected a file of class names or a label list that timm knows (imagenet-1k,"
            " imagenet-12k, imagenet-21k-goog, imagenet-22k), found neither"
        ) from error


def _name_lists(path: Location, text: str) -> list[list[str]]:
    if path.suffix.lower() != ".json" and not text.lstrip().startswith(("[", "{")):
        return [[line.strip() for line in text.splitlines() if line.strip()]]
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: expected JSON class names, found {error.msg} at line {error.lineno}") from error
    lists = list(content.values()) if isinstance(content, dict) else [content]
    lists = [names for names in lists if isinstance(names, list) and all(isinstance(name, str) for name in names)]
    if not lists:
        raise DataError(f"{path}: expected a JSON list of class names, found {type(content).__name__} without one")
    return lists


def _repeats(keys: Sequence[str]) -> bool:
    return len(set(keys)) < len(keys)
