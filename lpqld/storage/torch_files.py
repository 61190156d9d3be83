"""Files that torch.save wrote, read without running what they say: tensors, numbers, lists and dictionaries alone."""

from __future__ import annotations

import pickle
import warnings
from typing import IO, Any

import numpy as np
import torch
from numpy._core import multiarray

from lpqld.errors import DataError

_TYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1")
# Numbers of numpy's, which many save beside their tensors, by the names of old and new versions; they construct
# nothing else.
_NUMPY: list[Any] = [
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in _TYPES),
]


def load_tensors(source: str | IO[bytes], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` was given, its tensors on `device`.

    Raises:
        DataError: it is damaged, or asks for anything but tensors and numbers; without the file's name.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings(action="ignore"):
            return torch.load(source, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        lines = str(error).splitlines()
        reason = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0])
        raise DataError(
            f"refused: its pickle asks for more than tensors and numbers, which may be harmful code "
            f"({reason.strip().partition('. Please')[0]})"
        ) from error
    except Exception as error:  # damaged bytes make torch's reader raise anything, an AssertionError too
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"damaged: torch cannot read it ({reason})") from error
