"""Runs that nobody interrupted, to compare others with."""

import pytest

from diffusionmtl.runfolder import RunFolder
from tests.runs import VARIANTS, log_every_step, tiny, trained


@pytest.fixture(autouse=True)
def _every_step_is_logged(monkeypatch):
    log_every_step(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Per variant a run that nobody interrupted, trained when first asked for."""
    runs: dict[str, RunFolder] = {}

    def run(variant: str) -> RunFolder:
        if variant not in runs:
            runs[variant] = trained(tiny(**VARIANTS[variant]), tmp_path_factory.mktemp(variant) / "run")
        return runs[variant]

    return run
