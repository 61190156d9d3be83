"""One batch file of FKD-style label folders (SRe2L, CDA, LPLD, LPQLD): read without running what it says.

A batch is a pickled list, inside a torch zip: crops, flips or cutouts, partners, lambda, box, logits and, where only
the largest are kept, class ids. What its narrow types may have wrapped is repaired where that is certain, else refused.
"""

from __future__ import annotations

import io
import math
import reprlib
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.errors import DataError
from lpqld.storage import load_tensors

# Of a batch: logits of 10,450 classes of 1,024 views are 21 MB in fp16.
_MOST_BYTES = 2**30
_FIELDS = ("crops", "flips or cutouts", "partners", "lambda", "box", "logits", "class ids")
_INT16, _UINT8 = 2**16, 2**8


@dataclass(frozen=True)
class FkdBatch:
    """B views and their labels, as a file has them.

    Attributes:
        crops: (top, left, height, width) in shares of the image, float64 [B, 4].
        crop_type: "half" or "single", how they were stored.
        flips: bool [B].
        cutouts: (centre down, centre right, height, width) in shares of the side, then red, green, blue from 0 to 255,
            [B, 7]; None without cutout.
        partners: place in the batch of the view that is mixed in, [B]; None without mixing.
        lam: lambda; None without mixing.
        box: (top, left, bottom, right) in pixels; None without CutMix.
        ids: the classes of the logits, int64 [B, k]; None where all have one.
        logits: float16 as stored, or float32, [B, k] or [B, C].
    """

    crops: NDArray[np.float64]
    crop_type: str
    flips: NDArray[np.bool_]
    cutouts: NDArray[np.float64] | None
    partners: NDArray[np.int64] | None
    lam: float | None
    box: tuple[int, int, int, int] | None
    ids: NDArray[np.int64] | None
    logits: NDArray[Any]

    def __len__(self) -> int:
        return len(self.crops)


def read_batch(content: bytes, name: str, *, side: int, num_classes: int) -> FkdBatch:
    """The batch in the bytes of a file.

    Args:
        content: the file's.
        name: of the file, for messages.
        side: of views in pixels.
        num_classes: C.

    Raises:
        DataError: naming the file: it is damaged, holds code, or numbers that cannot be what was meant.
    """
    try:
        return _batch_of(_unpickled(content), side, num_classes)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _unpickled(content: bytes) -> list[Any]:
    """The list in a torch zip, with nothing in it but tensors and numbers."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, OSError, struct.error) as error:
        raise DataError(f"not a batch of labels: expected a zip that torch.save wrote ({error})") from error
    if size > _MOST_BYTES:
        raise DataError(f"claims {size:,} bytes when unpacked; a batch of labels has at most {_MOST_BYTES:,}")
    found = load_tensors(io.BytesIO(content))
    if not isinstance(found, list | tuple) or not 6 <= len(found) <= 7:
        size_found = f"{len(found)}" if isinstance(found, list | tuple) else type(found).__name__
        raise DataError(f"expected a list of {', '.join(_FIELDS)}; found {size_found}")
    return list(found)


def _batch_of(fields: list[Any], side: int, num_classes: int) -> FkdBatch:
    crops, second, partners, lam, box, logits = fields[:6]
    ids = fields[6] if len(fields) == 7 else None
    crops_array, logits_array = _array(crops, "crops"), _array(logits, "logits")
    if crops_array.ndim != 2 or crops_array.shape[1] != 4 or logits_array.ndim != 2 or len(crops_array) < 1:
        raise DataError(
            f"crops have shape {crops_array.shape} and logits {logits_array.shape}: expected B x 4 and B x k"
        )
    count = len(crops_array)
    if len(logits_array) != count:
        raise DataError(f"{len(logits_array)} labels of {count} views")
    if not np.isfinite(logits_array.astype(np.float32)).all():
        raise DataError("a logit is NaN or infinite")
    flips, cutouts = _flips_or_cutouts(second, count)
    read_partners = _partners(partners, count)
    read_lam = None if lam is None else _number(lam, "lambda")
    return FkdBatch(
        crops=crops_array.astype(np.float64),
        crop_type="half" if crops_array.dtype == np.float16 else "single",
        flips=flips,
        cutouts=cutouts,
        partners=read_partners,
        lam=read_lam,
        box=None if box is None else _box(box, read_lam, side),
        ids=_ids(ids, logits_array.shape, num_classes),
        logits=logits_array,
    )


def _number(value: Any, name: str) -> float:
    """A number, or a tensor of one."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f"{name} must be a number, found {reprlib.repr(value)}") from error
    if not math.isfinite(found):
        raise DataError(f"{name} is {found}")
    return found


def _array(value: Any, name: str) -> NDArray[Any]:
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{name} must be a tensor, found {type(value).__name__}")
    if value.layout is not torch.strided or value.is_complex() or value.is_quantized:
        raise DataError(f"{name} must be a dense tensor of real numbers, found {value.dtype}, {value.layout}")
    # A tensor that repeats few numbers by strides of 0 may claim any size.
    if (size := value.numel() * value.element_size()) > _MOST_BYTES:
        raise DataError(f"{name} claim {size:,} bytes; a batch of labels has at most {_MOST_BYTES:,}")
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()


def _flips_or_cutouts(value: Any, count: int) -> tuple[NDArray[np.bool_], NDArray[np.float64] | None]:
    found = _array(value, _FIELDS[1])
    if found.shape == (count, 7):
        return np.zeros(count, dtype=bool), found.astype(np.float64)
    if found.shape == (count,):
        return found.astype(bool), None
    raise DataError(f"flips have shape {found.shape}, expected {(count,)}, or {(count, 7)} of cutouts")


def _partners(value: Any, count: int) -> NDArray[np.int64] | None:
    if value is None:
        return None
    found = _array(value, "partners")
    if found.shape != (count,):
        raise DataError(f"partners have shape {found.shape}, expected {(count,)}")
    if found.dtype == np.uint8 and count > _UINT8:
        raise DataError(
            f"partners of a batch of {count} were stored in 8 bits, which wraps above {_UINT8}: which views were mixed "
            f"is lost. Relabel the images, with lpqld or in batches of at most {_UINT8}"
        )
    partners = found.astype(np.int64)
    if not ((partners >= 0) & (partners < count)).all():
        raise DataError(f"partner {partners.max()} of a batch of {count} views")
    return partners


def _ids(value: Any, shape: tuple[int, ...], num_classes: int) -> NDArray[np.int64] | None:
    if value is None:
        if shape[1] != num_classes:
            raise DataError(f"logits of {shape[1]} classes and no class ids; the images have {num_classes} classes")
        return None
    found = _array(value, "class ids")
    if found.shape != shape:
        raise DataError(f"class ids have shape {found.shape}, logits {shape}")
    ids = found.astype(np.int64)
    if found.dtype == np.int16 and num_classes > _INT16 // 2:
        if num_classes > _INT16:
            raise DataError(f"class ids were stored in 16 bits, which wraps above {_INT16}, of {num_classes} classes")
        ids %= _INT16  # stored wrapped: -1 is 65,535
    if not ((ids >= 0) & (ids < num_classes)).all():
        bad = ids[(ids < 0) | (ids >= num_classes)][0]
        raise DataError(f"class {bad}, and the images have {num_classes} classes from 0")
    ordered = np.sort(ids, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise DataError("a label names a class twice")
    return ids


def _box(value: Any, lam: float | None, side: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right); 8 bits that wrapped are repaired with what lambda says of the box."""
    if isinstance(value, torch.Tensor) and value.ndim == 1:
        value = list(value)
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise DataError(f"a box must be four numbers, found {reprlib.repr(value)}")
    numbers = [int(_number(edge, "an edge of a box")) for edge in value]
    narrow = any(isinstance(edge, torch.Tensor) and edge.dtype == torch.uint8 for edge in value)
    candidates = [(number, number + _UINT8) if narrow and number + _UINT8 <= side else (number,) for number in numbers]
    boxes = [
        (top, left, bottom, right)
        for top in candidates[0]
        for left in candidates[1]
        for bottom in candidates[2]
        for right in candidates[3]
        if 0 <= top <= bottom <= side and 0 <= left <= right <= side
    ]
    if len(boxes) > 1 and lam is not None:
        boxes = [box for box in boxes if _is_drawn(box, lam, side)]
    if boxes and all(top == bottom or left == right for top, left, bottom, right in boxes):
        return boxes[0]  # nothing is mixed in, wherever it is
    if len(boxes) != 1:
        wrapped = f"; 8 bits, which wrap at a side of {side}, say no better" if narrow and side >= _UINT8 else ""
        beyond = "" if max(numbers) <= side else "; pass the images that the labels were made for, of their views' size"
        raise DataError(f"box {tuple(numbers)} of views of {side} pixels{beyond or wrapped}")
    return boxes[0]


def _is_drawn(box: tuple[int, int, int, int], lam: float, side: int) -> bool:
    """Whether CutMix could have drawn a box: as long as lambda says, unless it is cut off at the image's edge."""
    length = int(side * np.sqrt(1 - lam))
    for start, end in ((box[0], box[2]), (box[1], box[3])):
        whole = 2 * (length // 2)
        cut_off = start == 0 or end == side
        if not (end - start == whole or (cut_off and length // 2 <= end - start <= whole)):
            return False
    return True
