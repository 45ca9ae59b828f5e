"""A run that is killed at any moment, again and again, ends like one that nobody touched."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from tests.runs import assert_equal, tiny, trained

# 50 and more for a night; CI kills a few times.
KILLS = int(os.environ.get("KILLS", "6"))


def work(out: str, epochs: int) -> None:
    run = Path(out)
    # A process that dies before the run is claimed leaves nothing to resume.
    trained(tiny(epochs=epochs, checkpoint_every=1e-9), run, resume=(run / "config.yaml").is_file())


@pytest.fixture(scope="module")
def start():
    """Starts a process that has everything imported already, so that kills fall into the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_kills"])

    def started(out: Path, epochs: int = 3):
        process = context.Process(target=work, args=(str(out), epochs))
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


@pytest.mark.slow
def test_one_run_is_killed_all_along(start, tmp_path):
    """Now at any time since it was begun, now while its next checkpoint or the one after that is being written."""
    whole, killed, epochs = tmp_path / "whole", tmp_path / "killed", max(3, KILLS)
    untouched = start(whole, epochs)
    first = changes(untouched, whole, 1)
    chance, within, seen = random.Random(2), 0, set()
    for kill in range(KILLS):
        process = start(killed, epochs)
        if kill % 2:
            changes(process, killed, 8, chance.uniform(0, first))
        else:
            changes(process, killed, chance.randrange(1, 9))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
        within += any(killed.rglob("*.part"))
        seen.add(files(killed))
    last = start(killed, epochs)
    for process in (untouched, last):
        process.join(240 + 10 * KILLS)
        assert process.exitcode == 0
    compare(whole, killed)
    print(f"{KILLS} kills, {within} of them while a file was being written; {len(seen)} different states on disk")
    assert within and len(seen) > KILLS // 3


def files(run: Path) -> tuple:
    """Of the checkpoints, which changes four times while one is written: what is begun, and what takes its place."""
    try:
        return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in (run / "checkpoints").glob("*ckpt*")))
    except OSError:  # one went away between the two
        return ()


def changes(process, run: Path, number: int, seconds: float = 240) -> float:
    """Wait for so many, but no longer than this; how long it was."""
    began, before = time.monotonic(), files(run)
    while number and time.monotonic() < began + seconds and process.exitcode is None:
        now = files(run)
        number, before = number - (now != before), now
        time.sleep(0.0005)
    return time.monotonic() - began


def compare(whole: Path, killed: Path) -> None:
    one, other = (RunFolder(path) for path in (whole, killed))
    for name in ("last.safetensors", "best.safetensors"):
        assert (one.checkpoints / name).read_bytes() == (other.checkpoints / name).read_bytes()
    assert_equal(*(torch.load(run.checkpoints / LAST_CHECKPOINT) for run in (one, other)), "checkpoint")
    assert read_log(one) == read_log(other)
    assert not list(killed.rglob("*.part"))
