"""Images of the Hugging Face Hub by name, through the `datasets` library where it is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lpqld.errors import ConfigError, DataError, few
from lpqld.images.class_names import check_unique
from lpqld.images.records import Record, Source, in_order

HUB_PREFIX = "hub:"
_NAME = re.compile(rf"{HUB_PREFIX}(?P<name>.+?)(?:@(?P<config>[\w.-]+))?:(?P<split>[\w.-]+)")


def read_hub(path: str) -> Source:
    """The encoded images of `hub:OWNER/NAME:SPLIT`, or `hub:OWNER/NAME@CONFIG:SPLIT`.

    Its one image column and its column of classes are taken, `label` where there are several.

    Raises:
        ConfigError: the name is none, or `datasets` is not installed, or does not find it.
        DataError: its columns are no labelled images.
    """
    parts = _NAME.fullmatch(path)
    if parts is None:
        raise ConfigError(f"{path}: expected {HUB_PREFIX}OWNER/NAME:SPLIT, such as {HUB_PREFIX}uoft-cs/cifar10:train")
    found = _load(path, parts["name"], parts["config"], parts["split"])
    image, label = _image_column(path, found.features), _label_column(path, found.features)
    rows = found.select_columns([image, label]).with_format("arrow")[:]
    records = []
    class_names = check_unique(found.features[label].names, path)
    for row, (entry, number) in enumerate(zip(rows[image].to_pylist(), rows[label].to_pylist(), strict=True)):
        if number is None or not 0 <= number < len(class_names):
            raise DataError(f"{path} row {row}: label must be in 0 ... {len(class_names) - 1}, found {number}")
        records.append(_record(f"{path} row {row}", number, entry or {}))
    # Rows stay in the data set's order, wherever its files lie here.
    return in_order(class_names, records, [""] * len(records), path)


def _record(origin: str, label: int, entry: dict[str, Any]) -> Record:
    """Of an image whose bytes are in the data set, or which it has as a file."""
    name, content = entry.get("path"), entry.get("bytes")
    if content is None and name is not None and (file := Path(name)).is_file():
        return Record(origin, label, file, (file.name, file.stat().st_size))
    return Record(origin, label, content)


def _load(path: str, name: str, config: str | None, split: str) -> Any:
    try:
        import datasets  # noqa: PLC0415  (optional, and a second to import)
    except ImportError as error:
        raise ConfigError(f"{path}: needs the datasets library: pip install datasets") from error
    try:
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # whatever the network, the Hub or a damaged file lead to
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{path}: the datasets library cannot load it ({reason})") from error


def _image_column(path: str, features: Any) -> str:
    from datasets import Image  # noqa: PLC0415

    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    if len(found) != 1:
        raise DataError(f"{path}: expected one column of images, found {few(found) or 'none'}")
    return str(found[0])


def _label_column(path: str, features: Any) -> str:
    from datasets import ClassLabel  # noqa: PLC0415

    found = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if "label" in found or len(found) == 1:
        return "label" if "label" in found else str(found[0])
    raise DataError(f"{path}: expected a column label of classes, found {few(found) or 'none'}")
