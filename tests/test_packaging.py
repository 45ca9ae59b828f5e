"""What is published is light, and the source archive has what its own tests need."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "configs", "tools", "tests", "docs", "benchmarks", "examples")
PATHS = "links_and_pictures or files_and_targets or every_page_is_in or what_is_copied or stages_are_there"

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


@pytest.mark.parametrize("words", [["--collect-only", "--quiet"], ["-k", PATHS]], ids=["collected", "files"])
def test_its_tests_find_what_they_need(unpacked, words):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
