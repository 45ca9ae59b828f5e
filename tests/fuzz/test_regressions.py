"""Files that a reader once did not take well are refused or read now, and so are a few fresh ones."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.target import attempt
from tests.fuzz.targets import TARGETS

FOLDER = Path(__file__).parent / "regressions"
KEPT = sorted(FOLDER.glob("*/*.bin"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_was_found_before(tmp_path, path):
    attempt(TARGETS[path.parent.name], tmp_path, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_taken_or_refused(tmp_path, name):
    if name == "video":
        pytest.importorskip("av")
    target, rng = TARGETS[name], np.random.default_rng(0)
    seeds = target.seeds()
    assert any(attempt(target, tmp_path, content) for content in seeds), "no seed is a good file of its kind"
    for _ in range(15):
        attempt(target, tmp_path, mutated(target, seeds, rng))
