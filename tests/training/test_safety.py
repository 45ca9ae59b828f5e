"""Full disks and broken numbers cost nothing that was kept before."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from diffusionmtl import files
from diffusionmtl.cli import main
from diffusionmtl.commands import train as train_command
from diffusionmtl.errors import UserError
from diffusionmtl.inference.load import load
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from tests.runs import (
    STEPS_PER_EPOCH,
    assert_same_run,
    tiny,
    trained,
    with_callback,
)

NAMES = RunFolder(Path())


class HalfWritten:
    """A stream on a disk that gets full halfway, or takes nothing any more."""

    def __init__(self, stream, number):
        self.stream, self.number = stream, number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def write(self, data):
        self.stream.write(data[: len(data) // 2])
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("name", "number", "advice"),
    [
        ("last.ckpt", errno.ENOSPC, "make room"),
        ("last.safetensors", errno.ENOSPC, "make room"),
        ("last.ckpt", errno.EROFS, "make it writable"),
    ],
)
def test_a_full_disk_costs_no_checkpoint(whole, tmp_path, monkeypatch, capsys, name, number, advice):
    usual = Path.open
    writes = []

    def full_the_second_time(path, mode="r", *args, **kwargs):
        stream = usual(path, mode, *args, **kwargs)
        if "w" in mode and name in path.name:
            writes.append(path)
            return HalfWritten(stream, number) if len(writes) == 2 else stream
        return stream

    settings = tiny()
    out = tmp_path / "run"
    words = " ".join(f"--{k.replace('_', '-')} {_said(v)}" for k, v in settings.flat().items() if _said(v))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full_the_second_time)
        assert main(f"train --out {out} {words}".split()) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert name in said[0]
    assert f"({os.strerror(number)}); the previous one is still there: {advice}" in said[0]
    assert not list(out.rglob("*.part"))
    first_epoch = torch.load(out / "checkpoints" / LAST_CHECKPOINT, weights_only=True)
    assert first_epoch["global_step"] == STEPS_PER_EPOCH
    load(out)
    assert_same_run(trained(settings, out, resume=True), whole("feature"))


def _said(value) -> str:
    if value in (None, {}, []):
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def test_a_checkpoint_is_never_seen_half_written(whole, tmp_path, monkeypatch):
    """It is renamed from a complete file beside it: on one disk that is one step."""
    renamed = []
    usual = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: (renamed.append((path, target)), usual(path, target))[1])
    run = trained(tiny(epochs=1), tmp_path / "run")
    checkpoint = run.checkpoints / LAST_CHECKPOINT
    assert [path.parent for path, target in renamed if target == checkpoint] == [checkpoint.parent]


@pytest.mark.parametrize("last", [NAMES.held_out, NAMES.config], ids=lambda found: found.name)
def test_a_run_that_died_while_it_noted_how_it_began_begins_again(tmp_path, monkeypatch, last):
    """Between its first file and its last: there is no run to resume, and nothing of anybody's in the way."""
    write, out = files.write_bytes_atomically, tmp_path / "run"

    def dies(path: Path, data: bytes) -> None:
        if path.name == last.name:
            (path.parent / f".{path.name}.123.part").write_bytes(data[:3])
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(train_command, "write_bytes_atomically", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny(epochs=1), out)
    with pytest.raises(UserError, match="holds no run"):
        trained(tiny(epochs=1), out, resume=True)
    trained(tiny(epochs=1), out)
    assert (out / "checkpoints" / LAST_CHECKPOINT).is_file() and not list(out.glob(".*"))
    (out / "mine.txt").write_text("mine")
    (out / "checkpoints" / LAST_CHECKPOINT).unlink()
    with pytest.raises(UserError, match="is not empty"):
        trained(tiny(epochs=1), out)


def test_what_a_killed_process_was_writing_goes_when_the_run_goes_on(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole("feature").root, out)
    for name in (".last.ckpt.17.part", ".last.safetensors.17.part", ".previous.ckpt.part"):
        (out / "checkpoints" / name).write_bytes(b"half")
    trained(tiny(), out, resume=True)
    assert not list(out.rglob("*.part"))


class Poison(Callback):
    """Makes one weight infinite before a step, counted from 0."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            pl_module.network.initial.heads["depth"].weight.data.fill_(float("inf"))


@pytest.mark.parametrize(("step", "kept"), [(0, None), (2, None), (4, 3)])
def test_a_loss_that_is_no_number_ends_the_run_before_it_is_kept(tmp_path, monkeypatch, step, kept):
    with_callback(monkeypatch, Poison(step))
    out = tmp_path / "run"
    settings = tiny(tasks=("depth", "semseg"), labels="full", clip=0.0)
    message = (
        rf"step {step + 1}: the loss is not finite \(tasks: .*depth.*; images: room-\d+, room-\d+, room-\d+, room-"
    )
    with pytest.raises(UserError, match=message):
        trained(settings, out)
    checkpoint = out / "checkpoints" / LAST_CHECKPOINT
    if kept is None:
        assert not checkpoint.exists()
    else:
        assert torch.load(checkpoint, weights_only=True)["global_step"] == kept
        assert all(bool(value.isfinite().all()) for value in load(out).network.state_dict().values())


class PoisonGradient(Callback):
    """Makes one gradient infinite in a step, counted from 0, of which the loss is as good as ever."""

    def __init__(self, step: int):
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            pl_module.network.initial.heads["depth"].weight.grad.fill_(float("inf"))


@pytest.mark.slow
@pytest.mark.parametrize(("step", "kept"), [(2, None), (5, 3)])
def test_weights_that_are_no_numbers_are_not_kept(tmp_path, monkeypatch, step, kept):
    """The last step of an epoch of three: no loss is computed with its weights before they would be written."""
    with_callback(monkeypatch, PoisonGradient(step))
    settings = tiny(tasks=("depth", "semseg"), labels="full", clip=0.0)
    message = r"step \d+: weight network\.initial\.heads\.depth\.weight is not finite, though .* last step: room-\d+, "
    with pytest.raises(UserError, match=message):
        trained(settings, tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoints" / LAST_CHECKPOINT
    assert checkpoint.exists() == (kept is not None)
    if kept is not None:
        assert all(bool(value.isfinite().all()) for value in load(tmp_path / "run").network.state_dict().values())
