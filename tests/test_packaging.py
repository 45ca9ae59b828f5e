"""What is published is light, and the source archive has all that it should."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "configs", "docs", "benchmarks", "examples", "tools")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The archives that are published."""
    found = {}
    for target in ("sdist", "wheel"):
        folder = tmp_path_factory.mktemp(target)
        words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        (found[target],) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory) -> Path:
    """The folder of the source archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.mark.parametrize("target", ["sdist", "wheel"])
def test_archives_are_light(built, target):
    assert built[target].stat().st_size < 1_000_000


def test_the_source_archive_is_whole(unpacked):
    for folder in FOLDERS:
        here = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        here = {path for path in here if "__pycache__" not in path.parts and "_build" not in path.parts}
        assert {path for path in here if not (unpacked / path).is_file()} == set(), folder
    assert not (unpacked / "tests").exists()
