"""What every test stands on: shapes checked as the code runs, one thread, no luck, and where outside material lies."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported, and for the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import jaxtyping
import pytest
import torch

from tests.browser import CHROMIUM

REPOSITORY = Path(__file__).resolve().parents[1]

if "diffusionmtl" in sys.modules:
    raise RuntimeError("diffusionmtl was imported before tests/conftest.py could switch its shape checks on")
jaxtyping.install_import_hook("diffusionmtl", "beartype.beartype")

torch.set_num_threads(1)

hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the two folders of material that is not part of the repository."""
    group = parser.getgroup("diffusionmtl")
    group.addoption(
        "--conformance",
        type=Path,
        metavar="DIR",
        default=REPOSITORY.parent / "shared" / "conformance",
        help="figures recorded from the published network (default: ../shared/conformance)",
    )
    group.addoption(
        "--shared-data",
        type=Path,
        metavar="DIR",
        default=REPOSITORY.parent / "shared" / "data",
        help="partly labelled folders of real photographs (default: ../shared/data)",
    )


def _folder_or_skip(config: pytest.Config, option: str) -> Path:
    folder: Path = config.getoption(option)
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; name the folder with {option} DIR to run this test")
    return folder


@pytest.fixture(scope="session")
def conformance_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of figures recorded from the published network; skips where it is absent."""
    return _folder_or_skip(pytestconfig, "--conformance")


@pytest.fixture(scope="session")
def shared_data_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of partly labelled data sets of real photographs; skips where it is absent."""
    return _folder_or_skip(pytestconfig, "--shared-data")


@pytest.fixture(scope="session", autouse=True)
def _rooms_are_drawn_into_a_folder_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's cache is read or filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUSIONMTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run of Feature Diffusion on rooms. Copy it to write into it."""
    from tests.runs import tiny, trained

    return trained(tiny(), tmp_path_factory.mktemp("tiny") / "run").root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium; skips where playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        # No sandbox: continuous integration often runs as root, where Chromium's does not work.
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()
