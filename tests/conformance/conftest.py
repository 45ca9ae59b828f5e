"""Fixtures that run each recording once and hand it to every test that asks."""

import functools

import pytest
import torch

from tests.conformance.recordings import Recording, Rerun, find_recordings, rerun

_rerun_once = functools.cache(rerun)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per recording that is found, none of them named here; a module may ask for those with labels only."""
    if "recording" not in metafunc.fixturenames:
        return
    found = find_recordings(metafunc.config.getoption("--conformance"))
    if getattr(metafunc.module, "LABELLED_ONLY", False):
        found = [recording for recording in found if recording.training]
    reason = "no recordings there; name their folder with --conformance DIR"
    nothing = [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("recording", [pytest.param(item, id=item.path.stem) for item in found] or nothing)


@pytest.fixture
def single(recording: Recording) -> Rerun:
    """In float32."""
    return _rerun_once(recording, torch.float32)


@pytest.fixture
def double(recording: Recording) -> Rerun:
    """In float64."""
    return _rerun_once(recording, torch.float64)
