"""A training that can be interrupted: its state after an epoch, in one file that is whole or not there."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import torch

from lpqld.errors import DataError
from lpqld.storage.files import write_atomically
from lpqld.storage.torch_files import load_tensors

# Writing takes at most this share of the time.
_SHARE = 0.02


class TrainingCheckpoint:
    """The file of one training; without a path, nothing is kept."""

    def __init__(self, path: Path | None, identity: str, every_seconds: float) -> None:
        """`identity` says which training it is: the state of another is refused."""
        self._path, self._identity, self._every = path, identity, every_seconds
        self._saved_at = time.monotonic()

    def read(self) -> bytes | None:
        """The file, if there is one."""
        return self._path.read_bytes() if self._path is not None and self._path.is_file() else None

    def load(self, content: bytes, device: torch.device) -> dict[str, Any]:
        """The state in `content`; nothing in it is unpickled but tensors and plain values.

        Raises:
            DataError: it is damaged, or another training's.
        """
        try:
            state: dict[str, Any] = load_tensors(io.BytesIO(content), device)
            identity = state["identity"]
        except (DataError, KeyError, TypeError) as error:
            raise DataError(
                f"{self._path} is no checkpoint of a training; delete it to begin anew ({error})"
            ) from error
        if identity != self._identity:
            raise DataError(
                f"{self._path} is the checkpoint of another training ({identity}, not {self._identity}); delete it to "
                "begin anew"
            )
        return state

    def is_due(self) -> bool:
        """Whether the last state is old enough."""
        return self._path is not None and time.monotonic() - self._saved_at >= self._every

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file."""
        if self._path is None:
            return
        start, buffer = time.monotonic(), io.BytesIO()
        torch.save({"identity": self._identity, **state}, buffer)
        write_atomically(self._path, buffer.getvalue())
        self._saved_at = time.monotonic()
        self._every = max(self._every, (self._saved_at - start) / _SHARE if self._every else 0)

    def remove(self) -> None:
        """The training has ended."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
