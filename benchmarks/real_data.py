"""Where the real images, weights and labels of benchmarks lie, if anywhere."""

import os
from pathlib import Path

DATA = Path(os.environ.get("LPQLD_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
