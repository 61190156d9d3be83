"""Where the images of a sweep are that has made them: a note in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from lpqld.storage import read_json, write_atomically
from sweeps.config import SweepConfig

_PLACE_FILE = "images.json"


def note_images(folder: Path, images: Path) -> None:
    """Note in a sweep's folder where its recovered images are."""
    write_atomically(folder / _PLACE_FILE, json.dumps({"source": str(images.absolute())}).encode())


def images_source(config: SweepConfig, folder: Path) -> str:
    """Where the images of a sweep are that has made them, given its folder."""
    if not config.recovers:
        assert config.images.source is not None, "require_data comes first"
        return config.images.source
    place = read_json(folder / _PLACE_FILE, "run the same `lpqld sweep` again, which writes it")
    return str(place["source"])
