"""Training runs small enough to be done whole in a test, interrupted where a test says so, and compared."""

import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback

from diffusionmtl.commands.train import train
from diffusionmtl.config import Settings, changed
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from diffusionmtl.training import callbacks, run

TINY = dict(
    data=("rooms",),
    size=(32, 32),
    rooms=15,
    rooms_val=2,
    labels="one",
    holdout=0.1,
    scale=(0.8, 1.25),
    backbone="test_efficientnet",
    width=16,
    attention_heads=4,
    blocks=1,
    token_stride=2,  # several tokens: attention over one does not depend on the query
    batch=4,
    epochs=2,
    accelerator="cpu",
    self_training="auto",  # off by default, and the most there is to go wrong
)

STEPS_PER_EPOCH = 2
VARIANTS = {
    "feature": dict(),
    "prediction": dict(method="prediction", ema=0.5, optimizer="adam", schedule="poly"),
    "multitask": dict(method="multitask", holdout=0.0, labels="random", rooms=9),
    "xtc": dict(method="xtc", labels="random", rooms=12, xtc_width=8),
}


def tiny(**words) -> Settings:
    """Settings of a run that takes a second: 2 epochs of 2 steps on 9 of 15 rooms of 32x32."""
    return changed(Settings(), **{**TINY, **words})


def trained(settings: Settings, out: Path, resume: bool = False, start_from: Path | None = None) -> RunFolder:
    return train(settings, out, resume, progress=False, start_from=start_from)


class Interrupt(Callback):
    """Sends this process a signal during a step, counted from 0."""

    def __init__(self, step: int, number: int = signal.SIGINT, times: int = 1):
        self.step, self.number, self.times = step, number, times

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def with_callback(monkeypatch, *extra: Callback) -> None:
    """Let runs have one more callback, asked before the others, for as long as the test lasts."""
    usual = run._callbacks
    monkeypatch.setattr(run, "_callbacks", lambda *args: [*extra, *usual(*args)])


def log_every_step(monkeypatch) -> None:
    monkeypatch.setattr(callbacks, "LOG_EVERY", 1)


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    """Every bit of what two runs keep: weights, optimiser, schedule, progress, and each logged number."""
    for name in ("last.safetensors", "best.safetensors"):
        mine, theirs = one.checkpoints / name, other.checkpoints / name
        assert mine.is_file() == theirs.is_file(), name
        assert not mine.is_file() or mine.read_bytes() == theirs.read_bytes(), name
    states = [torch.load(r.checkpoints / LAST_CHECKPOINT, weights_only=True) for r in (one, other)]
    assert_equal(*states, "checkpoint")
    assert read_log(one) == read_log(other)
    assert one.partition.read_bytes() == other.partition.read_bytes()


def assert_equal(one, other, where: str) -> None:
    """Containers of tensors and plain values, bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where
