"""Where the real images, weights and labels of benchmarks lie, if anywhere."""

import os
from pathlib import Path

# Of a command line: the folder of real data, which is no part of what is recorded.
PLACEHOLDER = "{data}"
DATA = Path(os.environ.get("LPQLD_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def in_place(text: str) -> str:
    """With the folder of real data for its placeholder."""
    return text.replace(PLACEHOLDER, str(DATA))
