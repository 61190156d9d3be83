"""Distilled images that other projects keep as arrays: MTT, TESLA, DATM, FRePo, Ra-BPTT, DC, DM and the like.

A file is searched for one array of images and one of labels, by shape; nothing in it is executed. Floats that were
normalised come back as 8-bit pixels, which is said, and so is how many of them lay outside what a pixel can be.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import ConfigError, DataError
from lpqld.models import IMAGENET_MEAN, IMAGENET_STD, Triple
from lpqld.storage import load_tensors

# What the field normalises with, by the number of classes; where it is another, mean and std have to be given.
_USUAL: dict[int, tuple[str, Triple, Triple]] = {
    10: ("CIFAR-10's", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ("CIFAR-100's", (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    200: ("ImageNet's", IMAGENET_MEAN, IMAGENET_STD),
    1000: ("ImageNet's", IMAGENET_MEAN, IMAGENET_STD),
}
_SUFFIXES = (".pt", ".pth", ".npy", ".npz", ".h5", ".hdf5")
_MOST_BYTES = 2**36
_DEPTH = 8


@dataclass(frozen=True)
class TensorImages:
    """Images and labels of arrays.

    Attributes:
        pixels: uint8 [N, 3, S, S], in class order.
        labels: the class of each, int64 [N]; of soft labels the largest.
        soft: soft labels as they were, float32 [N, C]; None where labels are classes.
        num_classes: C.
        names: of the arrays that were read.
        normalisation: what was undone, for people.
        clipped: share of values that no pixel can have, and that became the nearest one.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    soft: NDArray[np.float32] | None
    num_classes: int
    names: tuple[str, str]
    normalisation: str
    clipped: float


def read_tensors(
    path: Path,
    *,
    images: str | None = None,
    labels: str | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> TensorImages:
    """The images in a file of arrays, or in a folder of such files.

    Args:
        path: a `.pt`, `.pth`, `.npy`, `.npz` or `.h5` file, or a folder of them.
        images, labels: names of the arrays, where there are several that could be meant.
        mean, std: that the images were normalised with; default: by their values and number of classes.

    Raises:
        ConfigError: there is no such file, or it is not said which array is meant or how it was normalised.
        DataError: a file is damaged, harmful, or holds no images and labels.
    """
    arrays = dict(_arrays(path))
    image_name = _one(arrays, images, "images", _is_images, path)
    pictures = arrays[image_name]
    count = len(pictures)
    label_name = _one(
        {name: array for name, array in arrays.items() if name != image_name},
        labels,
        "labels",
        lambda array: _is_labels(array, count),
        path,
    )
    found = arrays[label_name]
    soft = found.astype(np.float32) if found.ndim == 2 else None
    classes = found.argmax(1) if found.ndim == 2 else np.rint(found).astype(np.int64)
    num_classes = found.shape[1] if found.ndim == 2 else int(classes.max()) + 1
    if classes.min() < 0:
        raise DataError(f"{path}: labels {label_name} are classes from 0, found {classes.min()}")
    if (missing := sorted(set(range(num_classes)) - set(classes.tolist()))) and soft is None:
        raise DataError(f"{path}: labels {label_name} reach {num_classes - 1}, and class {missing[0]} has no image")
    if pictures.shape[1] not in (1, 3):
        pictures = pictures.transpose(0, 3, 1, 2)
    if pictures.shape[1] == 1:
        pictures = np.repeat(pictures, 3, axis=1)
    pixels, normalisation, clipped = _pixels(pictures, num_classes, mean, std, path)
    order = np.argsort(classes, kind="stable")
    return TensorImages(
        pixels=pixels[order],
        labels=classes[order].astype(np.int64),
        soft=None if soft is None else soft[order],
        num_classes=num_classes,
        names=(image_name, label_name),
        normalisation=normalisation,
        clipped=clipped,
    )


def _pixels(
    values: NDArray[Any], num_classes: int, mean: Triple | None, std: Triple | None, path: Path
) -> tuple[NDArray[np.uint8], str, float]:
    """8-bit pixels, what was undone, and the share of values that were none."""
    if (mean is None) != (std is None):
        raise ConfigError("mean and std come together")
    if values.dtype == np.uint8:
        return values, "none: 8 bits", 0.0
    floats = values.astype(np.float32)
    if not np.isfinite(floats).all():
        raise DataError(f"{path}: {np.count_nonzero(~np.isfinite(floats))} values of the images are NaN or infinite")
    low, high = float(floats.min()), float(floats.max())
    if mean is not None and std is not None:
        said = f"mean {_words(mean)}, std {_words(std)}, as given"
    elif low >= 0 and high <= 1:
        mean, std, said = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "none: values from 0 to 1"
    elif low >= 0 and high <= 255:
        mean, std, said = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255), "none: values from 0 to 255"
    elif num_classes in _USUAL:
        name, mean, std = _USUAL[num_classes]
        said = f"{name} mean {_words(mean)} and std {_words(std)}, a guess by the {num_classes} classes"
    else:
        raise ConfigError(
            f"{path}: values from {low:.2f} to {high:.2f} were normalised, and with what cannot be told from "
            f"{num_classes} classes: pass `mean` and `std`"
        )
    shape = (1, 3, 1, 1)
    raw = floats * np.array(std, dtype=np.float32).reshape(shape) + np.array(mean, dtype=np.float32).reshape(shape)
    # Half a step beyond the ends still rounds to them.
    clipped = float(((raw < -0.5 / 255) | (raw > 1 + 0.5 / 255)).mean())
    return np.rint(raw.clip(0, 1) * 255).astype(np.uint8), said, clipped


def _words(numbers: Triple) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _is_images(array: NDArray[Any]) -> bool:
    """[N, 3 or 1, S, S] or [N, S, S, 3 or 1] of numbers."""
    if array.ndim != 4 or len(array) == 0:
        return False
    _, *sides = array.shape
    first = sides[0] in (1, 3) and sides[1] == sides[2]
    last = sides[2] in (1, 3) and sides[0] == sides[1]
    return (first or last) and (array.dtype == np.uint8 or array.dtype.kind == "f")


def _is_labels(array: NDArray[Any], count: int) -> bool:
    """Classes [N], or soft labels [N, C]."""
    if array.ndim not in (1, 2) or len(array) != count:
        return False
    if array.ndim == 2:
        return array.shape[1] >= 2 and array.dtype.kind == "f"
    return array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool((array == np.rint(array)).all()))


def _one(arrays: Mapping[str, NDArray[Any]], wanted: str | None, what: str, fits: Any, path: Path) -> str:
    """The name of the array that is meant."""
    there = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "none"
    if wanted is not None:
        if wanted not in arrays or not fits(arrays[wanted]):
            raise ConfigError(f"{path}: {wanted} is no array of {what}; there are {there}")
        return wanted
    found = [name for name, array in arrays.items() if fits(array)]
    if not found:
        shapes = "[N, 3, S, S] or [N, S, S, 3]" if what == "images" else "[N] of classes or [N, C] of soft labels"
        raise DataError(f"{path}: no array of {what}, {shapes}; there are {there}")
    named = [name for name in found if what[:-1] in name.lower()]
    chosen = found if len(found) == 1 else named
    if len(chosen) != 1:
        raise ConfigError(f"{path}: several arrays could be the {what}: say --{what}-key; there are {there}")
    return chosen[0]


def _arrays(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array of a file or of a folder's files, by its name."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise ConfigError(f"{path}: expected a file, or a folder of files, ending in {', '.join(_SUFFIXES)}")
        for file in files:
            for name, array in _of_file(file):
                yield f"{file.name}:{name}" if name else file.name, array
        return
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or folder")
    yield from _of_file(path)


def _of_file(file: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    if file.suffix not in _SUFFIXES:
        raise ConfigError(f"{file}: expected a file ending in {', '.join(_SUFFIXES)}")
    if file.stat().st_size > _MOST_BYTES:
        raise DataError(f"{file}: {file.stat().st_size:,} bytes; a file of arrays has at most {_MOST_BYTES:,} here")
    try:
        if file.suffix in (".pt", ".pth"):
            yield from _flattened(load_tensors(str(file)), "", _DEPTH)
        elif file.suffix in (".npy", ".npz"):
            loaded = np.load(file, allow_pickle=False)
            yield from [("", loaded)] if file.suffix == ".npy" else ((name, loaded[name]) for name in loaded.files)
        else:
            yield from _of_hdf5(file)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: damaged, or it holds objects ({str(error).partition(chr(10))[0]})") from error


def _flattened(value: Any, name: str, depth: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every tensor within dictionaries and lists, by its path; of a list of experiments, the first."""
    if isinstance(value, torch.Tensor):
        yield name, value.detach().cpu().numpy()
    elif isinstance(value, np.ndarray):
        yield name, value
    elif depth and isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flattened(entry, f"{name}.{key}" if name else str(key), depth - 1)
    elif depth and isinstance(value, list | tuple):
        # DC and DM keep [images, labels] of each experiment: those of the first one.
        pairs = value[:1] if value and isinstance(value[0], list | tuple) else value
        for index, entry in enumerate(pairs):
            yield from _flattened(entry, f"{name}[{index}]", depth - 1)


def _of_hdf5(file: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    try:
        import h5py  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise ConfigError(f"{file}: reading HDF5 needs the package h5py: pip install h5py") from error
    found: list[tuple[str, NDArray[Any]]] = []

    def visit(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and entry.dtype.kind in "iuf":
            found.append((name, entry[()]))

    with h5py.File(file) as opened:
        opened.visititems(visit)
    yield from found
