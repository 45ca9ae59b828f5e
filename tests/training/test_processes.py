"""Several processes train exactly as one does, however unequally labels fall to them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from diffusionmtl import load
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.processes import is_first
from diffusionmtl.runfolder import LAST_CHECKPOINT

ROOT = Path(__file__).parents[2]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def steps(world: int, out: Path, *words: str) -> dict:
    """What `tests.training.several` writes when `world` processes run it together.

    Once, under a full load, a process of this test was gone without a word (gloo told the other so). Should one end by
    a signal again, all that is known of it becomes a warning, and the steps are tried a second time. Whatever ends in
    another way fails at once.
    """
    codes, told = _ended(world, out, *words)
    if any(code in (-signal.SIGKILL, -signal.SIGSEGV) for code in codes):
        warnings.warn(told, stacklevel=1)
        codes, told = _ended(world, out, *words)
    assert not any(codes), told
    return torch.load(out)


def _ended(world: int, out: Path, *words: str) -> tuple[list[int], str]:
    """Exit codes of the processes, and what each of them said: one that ends early takes the others with it."""
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
                env={**environment, **place, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=400)[0][-3000:] for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    ends = (f"process {n} ended with {code}:\n{text}" for n, (code, text) in enumerate(zip(codes, said, strict=True)))
    return codes, "\n\n".join(ends)


def assert_close(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    assert mine.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in mine.values())
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=tolerance, atol=tolerance * largest, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("feature", "alone", "ddp"),
        ("feature", "taught", "ddp"),
        ("prediction", "alone", "ddp"),
        ("multitask", "alone", "ddp"),
        ("feature", "alone", "fsdp"),
        ("feature", "taught", "fsdp", "recomputed"),
        ("multitask", "alone", "fsdp", "light"),
    ],
    ids=" ".join,
)
def test_two_processes_train_as_one(tmp_path, words):
    one, two = steps(1, tmp_path / "one.pt", *words), steps(2, tmp_path / "two.pt", *words)
    assert len(one["gradients"]) == len(two["gradients"]) == 3
    for mine, theirs in zip([*one["gradients"], one["weights"]], [*two["gradients"], two["weights"]], strict=True):
        assert_close(mine, theirs, 1e-9)
    assert one["held"] == 1 and (0.5 <= two["held"] < 0.55 if "fsdp" in words else two["held"] == 1)
    assert len(one["log"]) == 3
    for mine, theirs in zip(one["log"], two["log"], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(mine[name] == pytest.approx(theirs[name], rel=1e-9) for name in mine), (mine, theirs)


@pytest.mark.slow
def test_a_checkpoint_of_one_process_goes_through_two_that_share_its_weights_unchanged(tmp_path):
    words = ("feature", "taught", "fsdp")
    steps(1, tmp_path / "one.pt", *words)
    shutil.copy(tmp_path / "one.ckpt", tmp_path / "two.before")
    steps(2, tmp_path / "two.pt", *words)
    one, two = (torch.load(tmp_path / f"{name}.ckpt") for name in ("one", "two"))
    assert_close(one["state_dict"], two["state_dict"], 0.0)
    (mine,), (theirs,) = one["optimizer_states"], two["optimizer_states"]
    assert mine["param_groups"] == theirs["param_groups"] and mine["state"].keys() == theirs["state"].keys()
    for number, moments in mine["state"].items():
        assert_close(moments, theirs["state"][number], 0.0)


TINY = (
    "--data rooms --size 32 32 --rooms 48 --rooms-val 2 --labels one --holdout 0.1 --backbone test_efficientnet "
    "--width 16 --attention-heads 4 --blocks 1 --token-stride 2 --epochs 200 --accelerator cpu --self-training auto"
)


def started(out: Path, words: str) -> subprocess.Popen[str]:
    """A training run, once it has left its first checkpoint."""
    running = command(f"{TINY} {words} --out {out}")
    until = time.monotonic() + 240
    while not (out / "checkpoints" / LAST_CHECKPOINT).is_file():
        assert running.poll() is None and time.monotonic() < until, running.communicate()
        time.sleep(0.2)
    return running


def command(words: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")}
    return subprocess.Popen(
        [sys.executable, "-m", "diffusionmtl", "train", *words.split()],
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def going_on(out: Path, words: str) -> subprocess.Popen[str]:
    """The run resumed, once it has done further steps."""
    before = logged(out)
    running = command(f"--resume --accelerator cpu {words} --out {out}")
    until = time.monotonic() + 240
    while logged(out) <= before:
        assert running.poll() is None and time.monotonic() < until, running.communicate()
        time.sleep(0.2)
    return running


def stopped(running: subprocess.Popen[str]) -> None:
    """Asked to stop, it leaves a checkpoint and says how to go on."""
    running.send_signal(signal.SIGTERM)
    printed, _ = running.communicate(timeout=120)
    assert running.returncode == 130 and "continue with: diffusionmtl train --resume" in printed, printed


def logged(out: Path) -> int:
    return sum(path.stat().st_size for path in (out / "log").glob("metrics*.csv"))


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_dead_process_ends_the_run_soon_and_says_what_to_do(tmp_path, strategy):
    running = started(tmp_path / "run", f"--batch 2 --devices 2 --strategy {strategy}")
    (other,) = children(running)
    os.kill(other, signal.SIGKILL)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode in (2, -signal.SIGKILL)  # Lightning kills the first if it is the first to notice
    assert "another process of this run has ended" in printed and "--resume" in printed


@pytest.mark.slow
def test_asked_to_stop_all_processes_stop_together_and_one_alone_goes_on(tmp_path):
    out = tmp_path / "run"
    running = started(out, "--batch 2 --devices 2")
    stopped(running)
    odd = command(f"--resume --devices 3 --accelerator cpu --out {out}")
    printed, _ = odd.communicate(timeout=120)
    assert odd.returncode == 2 and "4 images per step cannot be shared by 3" in printed
    stopped(going_on(out, ""))


@pytest.mark.slow
def test_weights_that_were_shared_out_are_whole_in_files_and_any_processes_go_on_with_them(tmp_path):
    out = tmp_path / "run"
    words = "--epochs 6 --ema 0.9 --sync-batchnorm true --checkpoint-activations true"
    running = started(out, f"{words} --batch 2 --devices 2 --strategy fsdp")
    stopped(running)
    stopped(going_on(out, "--devices 1 --strategy auto"))
    together = going_on(out, "--devices 2 --strategy fsdp")
    printed, _ = together.communicate(timeout=240)
    assert together.returncode == 0, printed
    weights, description = read_network(out / "checkpoints" / "last.safetensors")
    assert description["progress"]["epoch"] == 6
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())
    load(out)


def test_one_process_is_the_first_whatever_runs_around_it():
    assert is_first(1, {"RANK": "3"})
    assert is_first(2, {}) and is_first(2, {"RANK": "0", "LOCAL_RANK": "1"}) and is_first(2, {"SLURM_PROCID": "0"})
    assert (
        not is_first(2, {"RANK": "1"})
        and not is_first(2, {"LOCAL_RANK": "1"})
        and not is_first(2, {"SLURM_PROCID": "2"})
    )
