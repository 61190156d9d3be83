"""What all tests share."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for tests: at LPQLD_SHARED_DATA, or at ../shared/data beside the checkout."""
    folder = Path(os.environ.get("LPQLD_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data absent: expected it at {folder}; set LPQLD_SHARED_DATA to where it is")
    return folder
