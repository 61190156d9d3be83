"""FKD-style label folders: which files are there, in which order, of which images.

Two layouts are in use: `batch_*.tar` with `sampler_indices_batch.json` (LPQLD), and `epoch_*/batch_*.tar`, whose order
is in `sampler_indices_epoch.json` (LPLD) or what torch's random sampler gives with a seed (SRe2L, CDA, FKD).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import RandomSampler

from lpqld.errors import ConfigError, DataError
from lpqld.interop.fkd_batch import FkdBatch, read_batch
from lpqld.views import CropUnit, ViewTable

BATCH_INDICES, EPOCH_INDICES = "sampler_indices_batch.json", "sampler_indices_epoch.json"
SAMPLER_SEED = 42  # what SRe2L and its descendants seed the sampler with
_MOST_JSON_BYTES = 2**31


@dataclass(frozen=True)
class FkdFolder:
    """The batches of a label folder in the order in which they were made.

    Attributes:
        folder: where they are.
        files: of each batch.
        images: rows of the images of each batch, int64 [B] each.
        num_epochs: passes over the images; batches drawn at random count as so many as they would fill.
        order: where the order comes from, for people.
    """

    folder: Path
    files: tuple[Path, ...]
    images: tuple[NDArray[np.int64], ...]
    num_epochs: int
    order: str

    @classmethod
    def open(cls, folder: Path, num_images: int, *, seed: int = SAMPLER_SEED) -> FkdFolder:
        """Find the batches of a folder made for so many images.

        Args:
            folder: of `batch_*.tar` or `epoch_*/batch_*.tar`.
            num_images: N, in the order in which the folder counts them: class by class, by file name.
            seed: of the sampler, where no file says the order.

        Raises:
            ConfigError: there is no such folder.
            DataError: it holds no batches, or not all; or the order is of other images.
        """
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; expected one of batch_*.tar or epoch_*/batch_*.tar files")
        epochs = _numbered(folder, "epoch_*", r"epoch_(\d+)")
        if not epochs:
            return cls._of_batches(folder, num_images)
        batches = [_numbered(path, "batch_*.tar", r"batch_(\d+)\.tar") for path in epochs]
        for path, found in zip(epochs, batches, strict=True):
            if not found:
                raise DataError(f"{path}: no batch_*.tar files; the folder is incomplete")
            if len(found) != len(batches[0]):
                raise DataError(
                    f"{path}: {len(found)} batches, {epochs[0].name} has {len(batches[0])}; batches are missing, "
                    f"copy the folder again"
                )
        orders, order = _epoch_orders(folder, len(epochs), num_images, seed)
        for epoch, rows in enumerate(orders):
            # The last batch may have been dropped, but no more.
            if len(np.unique(rows)) < len(rows) or num_images - len(rows) >= -(-len(rows) // len(batches[0])):
                raise DataError(
                    f"{folder}: by {order}, epoch {epoch} has {len(np.unique(rows))} of {num_images} images; expected "
                    f"each once. Pass `images` with the images that the labels were made for"
                )
        files = tuple(file for found in batches for file in found)
        images = tuple(rows for whole in orders for rows in _cut(whole, len(batches[0])))
        return cls(folder, files, images, len(epochs), order)

    @classmethod
    def _of_batches(cls, folder: Path, num_images: int) -> FkdFolder:
        files = _numbered(folder, "batch_*.tar", r"batch_(\d+)\.tar")
        if not files:
            raise DataError(f"{folder}: neither batch_*.tar nor epoch_*/batch_*.tar files are there")
        path = folder / BATCH_INDICES
        if not path.is_file():
            raise DataError(
                f"{path} is missing: without it nobody knows which images the batches are of. It lies beside the "
                f"batches where they were made; copy it too"
            )
        lists = _read_indices(path, num_images)
        if sorted(lists) != list(range(len(files))):
            missing = sorted(set(lists) - set(range(len(files)))) or sorted(set(range(len(files))) - set(lists))
            raise DataError(
                f"{folder}: {len(files)} batches, and {path.name} lists {len(lists)}; number {missing[0]} is missing"
            )
        images = tuple(lists[index] for index in range(len(files)))
        views = sum(len(rows) for rows in images)
        return cls(folder, tuple(files), images, -(-views // num_images), path.name)

    def batches(self, *, side: int, num_classes: int) -> Iterator[FkdBatch]:
        """Every batch, one in memory at a time.

        Raises:
            DataError: a file is damaged, harmful, or of another number of views than its images.
        """
        for file, rows in zip(self.files, self.images, strict=True):
            try:
                content = file.read_bytes()
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
            batch = read_batch(content, str(file), side=side, num_classes=num_classes)
            if len(batch) != len(rows):
                raise DataError(
                    f"{file}: {len(batch)} views, and {self.order} lists {len(rows)} images for it: a short batch that "
                    f"was padded, or labels of other images. Which view is of which image cannot be told"
                )
            yield batch


def view_table(folder: FkdFolder, batches: Iterator[FkdBatch], num_images: int, side: int) -> ViewTable:
    """The views of all batches.

    Crops become pixels where that gives the recorded numbers exactly, which they were drawn as.

    Raises:
        DataError: some batches are mixed or cut out, and others are not.
    """
    parts: dict[str, list[Any]] = {name: [] for name in ("crops", "flips", "partners", "boxes", "lams", "cutouts")}
    types = set()
    for batch in batches:
        types.add(batch.crop_type)
        parts["crops"].append(batch.crops)
        parts["flips"].append(batch.flips)
        if batch.partners is not None:
            parts["partners"].append(batch.partners)
            parts["lams"].append(1.0 if batch.lam is None else batch.lam)
            parts["boxes"] += [] if batch.box is None else [batch.box]
        if batch.cutouts is not None:
            parts["cutouts"].append(_cutout_pixels(batch.cutouts, side))
    total = len(parts["crops"])
    for name in ("partners", "boxes", "cutouts"):
        if len(parts[name]) not in (0, total):
            raise DataError(f"{folder.folder}: {len(parts[name])} of {total} batches have {name}, the others none")
    crops, unit = _crops(np.concatenate(parts["crops"]), "single" if "single" in types else "half", side)
    sizes = np.array([len(rows) for rows in folder.images])
    mixed = bool(parts["partners"])
    return ViewTable(
        num_images=num_images,
        side=side,
        rows=np.concatenate(folder.images),
        crops=crops,
        crop_unit=unit,
        flips=np.concatenate(parts["flips"]),
        labelled=np.ones(int(sizes.sum()), dtype=bool),
        batch_sizes=sizes,
        partners=np.concatenate(parts["partners"]) if mixed else None,
        boxes=np.array(parts["boxes"], dtype=np.int64) if parts["boxes"] else None,
        lams=np.array(parts["lams"], dtype=np.float32) if mixed else None,
        cutouts=np.concatenate(parts["cutouts"]) if parts["cutouts"] else None,
    )


def _crops(shares: NDArray[np.float64], recorded: CropUnit, side: int) -> tuple[NDArray[np.float32], CropUnit]:
    """In pixels if those are what was recorded, else as recorded."""
    pixels, dtype = np.rint(shares * side), np.float16 if recorded == "half" else np.float32
    if np.array_equal((pixels / side).astype(dtype), shares.astype(dtype)):
        return pixels.astype(np.float32), "pixel"
    return shares.astype(np.float32), recorded


def _cutout_pixels(cutouts: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    return np.rint(np.concatenate([cutouts[:, :4] * side, cutouts[:, 4:]], axis=1)).astype(np.int64)


def _numbered(folder: Path, pattern: str, name: str) -> list[Path]:
    """Files or folders by number, which must be 0, 1, 2 and so on.

    Raises:
        DataError: a number is missing.
    """
    found = {int(match[1]): path for path in folder.glob(pattern) if (match := re.fullmatch(name, path.name))}
    missing = sorted(set(range(len(found))) - set(found))
    if missing:
        raise DataError(
            f"{folder / pattern.replace('*', str(missing[0]))} is missing: there are {len(found)}, up to number "
            f"{max(found)}; copy the folder again"
        )
    return [found[number] for number in range(len(found))]


def _epoch_orders(folder: Path, num_epochs: int, num_images: int, seed: int) -> tuple[list[NDArray[np.int64]], str]:
    path = folder / EPOCH_INDICES
    if not path.is_file():
        generator = torch.Generator().manual_seed(seed)
        sampler = RandomSampler(range(num_images), generator=generator)
        return [np.array(list(sampler), dtype=np.int64) for _ in range(num_epochs)], f"the sampler's seed {seed}"
    lists = _read_indices(path, num_images)
    missing = [epoch for epoch in range(num_epochs) if epoch not in lists]
    if missing:
        raise DataError(f"{path}: lists {len(lists)} epochs, and epoch_{missing[0]} is there and not listed")
    return [lists[epoch] for epoch in range(num_epochs)], path.name


def _cut(rows: NDArray[np.int64], num_batches: int) -> list[NDArray[np.int64]]:
    """An epoch's images in batches of one size, but for the last.

    Raises:
        DataError: no size gives so many.
    """
    size = -(-len(rows) // num_batches)
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    if len(cut) != num_batches:
        raise DataError(f"{len(rows)} images cannot be {num_batches} batches of one size; batches are missing")
    return cut


def _read_indices(path: Path, num_images: int) -> dict[int, NDArray[np.int64]]:
    """Lists of image rows by number."""
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes; an index of batches has at most {_MOST_JSON_BYTES:,}")
    try:
        document = json.loads(path.read_bytes())
        lists = {int(key): np.array(rows, dtype=np.int64) for key, rows in document.items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: expected an object of lists of image numbers ({error})") from error
    for key, rows in lists.items():
        if rows.ndim != 1 or not len(rows):
            raise DataError(f"{path}: entry {key} is no list of image numbers")
        if rows.min() < 0 or rows.max() >= num_images:
            bad = rows.max() if rows.max() >= num_images else rows.min()
            raise DataError(
                f"{path}: entry {key} names image {bad}, and there are {num_images} images from 0; pass `images` with "
                f"the images that the labels were made for"
            )
    return lists
