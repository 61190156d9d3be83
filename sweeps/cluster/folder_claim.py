"""A folder is one job's: a small file says which, until the job is done."""

from __future__ import annotations

import json

from lpqld.errors import ConfigError
from lpqld.storage import TEMPORARY_SUFFIX, Location
from sweeps.cluster.retries import write_retried


def claim(folder: Location, file: str, fingerprint: str, unfinished: str, job: str) -> None:
    """Mark `folder` as the place of the job with this fingerprint; again, if it is that already.

    Args:
        file: that says whose the folder is.
        unfinished, job: for messages, such as "shards" and "relabel job".

    Raises:
        ConfigError: it holds another's work, or cannot be written.
    """
    content, path = json.dumps({"fingerprint": fingerprint}).encode(), folder / file
    if path.is_file():
        if path.read_bytes() != content:
            raise ConfigError(
                f"{folder} holds the unfinished {unfinished} of another {job}; choose another --out or delete it"
            )
        return
    if folder.is_dir() and not all(_is_claim(entry.name, file) for entry in folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and is no {job} of this project; choose another --out")
    write_retried(path, content)


def _is_claim(name: str, file: str) -> bool:
    """Whether a file is a job's claim, also where it is being written or was never finished."""
    return name == file or (name.startswith(f".{file}.") and name.endswith(TEMPORARY_SUFFIX))
