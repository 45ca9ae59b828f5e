"""A run that is killed at any moment, again and again, ends like one that nobody touched."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import torch

from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from tests.runs import assert_equal, tiny, trained

# 50 and more for a night; CI kills a few times.
KILLS = int(os.environ.get("KILLS", "6"))
WORDS = dict(epochs=3, checkpoint_every=1e-9)


def work(out: str) -> None:
    run = Path(out)
    # A process that dies before the run is claimed leaves nothing to resume.
    trained(tiny(**WORDS), run, resume=(run / "config.yaml").is_file())


@pytest.fixture(scope="module")
def start():
    """Starts a process that has everything imported already, so that kills fall into the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_kills"])

    def started(out: Path):
        process = context.Process(target=work, args=(str(out),))
        process.start()
        return process

    return started


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_again_and_again(start, tmp_path, seed):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    untouched = start(whole)
    untouched.join(240)
    assert untouched.exitcode == 0
    lasts, chance, kills = time.monotonic() - began, random.Random(seed), 0
    while kills < KILLS:
        process = start(killed)
        process.join(chance.uniform(0, lasts))
        if process.exitcode is None:
            process.kill()
            kills += 1
        process.join()
        if process.exitcode == 0:  # it got through: begin another run, as long as there are kills left
            compare(whole, killed)
            killed = tmp_path / f"killed-{kills}"
    last = start(killed)
    last.join(240)
    assert last.exitcode == 0
    compare(whole, killed)


def compare(whole: Path, killed: Path) -> None:
    one, other = (RunFolder(path) for path in (whole, killed))
    for name in ("last.safetensors", "best.safetensors"):
        assert (one.checkpoints / name).read_bytes() == (other.checkpoints / name).read_bytes()
    assert_equal(*(torch.load(run.checkpoints / LAST_CHECKPOINT) for run in (one, other)), "checkpoint")
    assert read_log(one) == read_log(other)
    assert not list(killed.rglob("*.part"))
