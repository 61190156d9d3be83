"""Image folders: one subfolder a class, on a local path or where a URI says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from PIL import Image

from lpqld.errors import ConfigError, DataError, few
from lpqld.images.class_names import CLASSES_FILE, positions, read_names
from lpqld.images.records import SPLIT_WORDS, Record, Source, in_order
from lpqld.storage import Location, RemotePath, file_sizes


def read_folder(folder: Location, wanted: Sequence[str] | None) -> Source:
    """The images in `folder`; errors as of `image_sources.read_source`."""
    subfolders = sorted(name for name in _subfolders(folder) if not name.startswith("."))
    if not subfolders:
        raise DataError(f"{folder}: expected Parquet files or one subfolder a class, found neither")
    if {name.lower() for name in subfolders} <= SPLIT_WORDS:
        raise ConfigError(f"{folder} holds splits, not classes ({few(subfolders)}): name one of its subfolders")
    class_names = tuple(subfolders)
    if (folder / CLASSES_FILE).is_file():
        class_names = read_names(folder / CLASSES_FILE, subfolders if wanted is None else wanted)
    found = positions(subfolders, class_names)
    unknown = [name for name, place in zip(subfolders, found, strict=True) if place is None]
    if unknown:
        raise DataError(f"{folder / CLASSES_FILE}: subfolders that are not in its class names: {few(unknown)}")
    suffixes = set(Image.registered_extensions())
    label_of = dict(zip(subfolders, found, strict=True))
    records, names = [], []
    for name, size in _file_names(folder, subfolders).items():
        parts = PurePosixPath(name).parts
        label = label_of.get(parts[0]) if len(parts) > 1 else None
        hidden = any(part.startswith(".") for part in parts)
        if label is not None and not hidden and PurePosixPath(name).suffix.lower() in suffixes:
            file = (folder / name).absolute()  # for workers elsewhere
            records.append(Record(str(folder / name), label, file, (name, size)))
            names.append(name)
    return in_order(class_names, records, names, str(folder))


def _file_names(folder: Location, subfolders: list[str]) -> dict[str, int]:
    """Files by name in order, and their sizes."""
    if isinstance(folder, RemotePath):
        return dict(sorted(file_sizes(folder).items()))  # one listing, not one a class
    sizes = {name: file_sizes(folder / name) for name in subfolders}
    return dict(sorted((f"{name}/{file}", size) for name, files in sizes.items() for file, size in files.items()))


def _subfolders(folder: Location) -> list[str]:
    if isinstance(folder, RemotePath):
        return folder.subfolders()
    return [entry.name for entry in folder.iterdir() if entry.is_dir()]
