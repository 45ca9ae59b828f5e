from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """Recordings of the published network, which are not part of the project."""
    folder = Path(__file__).parents[2].parent / "shared" / "conformance"
    if not folder.is_dir():
        pytest.skip(f"no recordings of the published network at {folder}")
    return folder
