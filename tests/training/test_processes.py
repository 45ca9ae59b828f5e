"""Several processes train exactly as one does, however unequally labels fall to them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusionmtl.processes import is_first

ROOT = Path(__file__).parents[2]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def steps(world: int, out: Path, *words: str) -> dict:
    """What `tests.training.several` writes when `world` processes run it together."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(world), "NODE_RANK": "0"}
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")}
    started = []
    for rank in range(world):
        place = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
        command = [sys.executable, "-m", "tests.training.several", str(out), *words]
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, **place, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in started:
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed[-3000:]
    return torch.load(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("feature", "alone"), ("feature", "taught"), ("prediction", "alone"), ("multitask", "alone")],
    ids=" ".join,
)
def test_two_processes_train_as_one(tmp_path, words):
    one, two = steps(1, tmp_path / "one.pt", *words), steps(2, tmp_path / "two.pt", *words)
    assert len(one["gradients"]) == len(two["gradients"]) == 3
    for mine, theirs in zip([*one["gradients"], one["weights"]], [*two["gradients"], two["weights"]], strict=True):
        assert mine.keys() == theirs.keys()
        largest = max(float(value.abs().max()) for value in mine.values())
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-9, atol=1e-9 * largest, msg=name)
    assert len(one["log"]) == 3
    for mine, theirs in zip(one["log"], two["log"], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(mine[name] == pytest.approx(theirs[name], rel=1e-9) for name in mine), (mine, theirs)


def test_one_process_is_the_first_whatever_runs_around_it():
    assert is_first(1, {"RANK": "3"})
    assert is_first(2, {}) and is_first(2, {"RANK": "0", "LOCAL_RANK": "1"}) and is_first(2, {"SLURM_PROCID": "0"})
    assert (
        not is_first(2, {"RANK": "1"})
        and not is_first(2, {"LOCAL_RANK": "1"})
        and not is_first(2, {"SLURM_PROCID": "2"})
    )
