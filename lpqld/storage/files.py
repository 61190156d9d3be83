"""Files that are whole or not there: written under a temporary name, flushed, then put in place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from lpqld.errors import ConfigError, DataError
from lpqld.storage.paths import TEMPORARY_SUFFIX, Location, RemotePath, check_local


def write_atomically(path: Location, content: bytes) -> None:
    """Put `content` at `path`, replacing what was there; a reader sees the old file or the new one, never a part.

    Raises:
        ConfigError: the folder cannot be written, or its storage cannot be used.
    """
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    check_local(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder with space that you may write to"
        ) from error


def read_part(path: Location, num_bytes: int) -> tuple[bytes, int]:
    """At most the first `num_bytes` of a label set's file, and the size of all of it.

    Raises:
        DataError: it is not there, or cannot be read; the message names it.
    """
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise DataError(f"{path}: not a file; the label set is incomplete")
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return file.read(min(size, num_bytes)), size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); the label set is incomplete") from error


def read_json(path: Location, remedy: str) -> dict[str, Any]:
    """The JSON object in a file that must be there.

    Args:
        remedy: what to do where it is damaged, for the message.

    Raises:
        DataError: it is not there, or damaged; the message names it.
    """
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("expected a JSON object")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); {remedy}") from error
    return document


def kept_json(path: Path) -> dict[str, Any] | None:
    """The JSON object that was kept in a file; None where there is none or not a whole one: its work is done again."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def sweep_temporary_files(folder: Location) -> None:
    """Delete what an interrupted writer left behind in `folder`."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def fingerprint(*parts: bytes | memoryview) -> str:
    """SHA-256 of `parts` as hex, each part preceded by its length so that no two lists of parts collide."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
