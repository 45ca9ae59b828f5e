"""An interrupted run that goes on ends exactly like one that nobody interrupted, bit for bit."""

import shutil
import signal
import threading

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback

from diffusionmtl.errors import UserError
from diffusionmtl.models.pretrained import read_plain_checkpoint
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, RunFolder
from diffusionmtl.training.keeping import checkpoint_to_resume
from diffusionmtl.training.run import Stopped
from tests.runs import STEPS_PER_EPOCH, VARIANTS, Interrupt, assert_equal, assert_same_run, tiny, trained, with_callback


@pytest.mark.parametrize(
    ("variant", "step"),
    [
        ("feature", 0),
        ("feature", 1),
        ("feature", 2),
        ("prediction", 1),
        ("prediction", 2),
        ("multitask", 1),
        ("multitask", 2),
        ("xtc", 1),
        ("xtc", 2),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch, variant, step, capsys):
    settings = tiny(**VARIANTS[variant])
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(step))
        with pytest.raises(Stopped):
            trained(settings, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert "once more ends at once" in capsys.readouterr().err
    reached = torch.load(tmp_path / "run/checkpoints" / LAST_CHECKPOINT, weights_only=True)["global_step"]
    assert reached == step + 1
    assert_same_run(trained(settings, tmp_path / "run", resume=True), whole(variant))


def test_interrupted_in_the_last_step_a_run_is_complete(whole, tmp_path, monkeypatch):
    with_callback(monkeypatch, Interrupt(2 * STEPS_PER_EPOCH - 1, signal.SIGTERM))
    run = trained(tiny(), tmp_path / "run")
    assert_same_run(run, whole("feature"))
    assert_same_run(trained(tiny(), run.root, resume=True), whole("feature"))


def test_interrupted_twice_in_different_places(whole, tmp_path, monkeypatch):
    for step in (0, 2):
        with monkeypatch.context() as patch:
            with_callback(patch, Interrupt(step))
            with pytest.raises(Stopped):
                trained(tiny(), tmp_path / "run", resume=step > 0)
    assert_same_run(trained(tiny(), tmp_path / "run", resume=True), whole("feature"))


class Crash(Callback):
    """Dies in the middle of a step, as of a power cut."""

    def __init__(self, step: int):
        self.step = step

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(("step", "every", "kept"), [(1, 1e-9, 1), (2, 1e-9, 2), (3, 1e-9, 3), (3, 0.0, 2)])
def test_a_crash_loses_what_came_after_the_last_checkpoint_and_nothing_else(
    whole, tmp_path, monkeypatch, step, every, kept
):
    settings = tiny(checkpoint_every=every)
    with monkeypatch.context() as patch:
        with_callback(patch, Crash(step))
        with pytest.raises(RuntimeError, match="power cut"):
            trained(settings, tmp_path / "run")
    assert torch.load(tmp_path / "run/checkpoints" / LAST_CHECKPOINT, weights_only=True)["global_step"] == kept
    run = trained(settings, tmp_path / "run", resume=True)
    one, other = (torch.load(r.checkpoints / LAST_CHECKPOINT, weights_only=True) for r in (run, whole("feature")))
    assert_equal(one, other, "checkpoint")
    assert read_log(run) == read_log(whole("feature"))


def test_a_run_that_never_reached_a_checkpoint_starts_again(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        with_callback(patch, Crash(0))
        with pytest.raises(RuntimeError, match="power cut"):
            trained(tiny(), tmp_path / "run")
    assert_same_run(trained(tiny(), tmp_path / "run", resume=True), whole("feature"))


def test_two_interrupts_end_at_once(tmp_path, monkeypatch):
    with_callback(monkeypatch, Interrupt(1, times=2))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny(), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run/checkpoints" / LAST_CHECKPOINT).exists()


def test_training_outside_the_main_thread(tmp_path):
    failed = []

    def work():
        try:
            trained(tiny(epochs=1), tmp_path / "run")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 2])
def test_resume_with_a_worker_process(whole, tmp_path, monkeypatch, step):
    settings = tiny(workers=1)
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(step))
        with pytest.raises(Stopped):
            trained(settings, tmp_path / "run")
    run = trained(settings, tmp_path / "run", resume=True)
    one, other = (torch.load(r.checkpoints / LAST_CHECKPOINT, weights_only=True) for r in (run, whole("feature")))
    assert_equal(one, other, "checkpoint")


def test_resuming_keeps_the_settings_of_the_run(whole, tmp_path):
    run = shutil.copytree(whole("feature").root, tmp_path / "run")
    with pytest.raises(UserError, match=r"--epochs 7: the run in .* was started with 2 and --resume keeps that"):
        trained(tiny(epochs=7), run, resume=True)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["task_set"]["depth"] = {"kind": "depth", "scale": 0.5}
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(UserError, match="the tasks of rooms have changed since"):
        trained(tiny(), run, resume=True)


def test_of_a_damaged_checkpoint_the_one_before_is_used(whole, tmp_path, capsys):
    run = RunFolder(shutil.copytree(whole("feature").root, tmp_path / "run"))
    last = run.checkpoints / LAST_CHECKPOINT
    assert torch.load(run.checkpoints / PREVIOUS_CHECKPOINT)["global_step"] == STEPS_PER_EPOCH
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    again = trained(tiny(), run.root, resume=True)
    assert "last.ckpt: damaged (the checksum of " in capsys.readouterr().err
    assert_equal(*(torch.load(r.checkpoints / LAST_CHECKPOINT) for r in (again, whole("feature"))), "checkpoint")


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path_factory, where, bit):
    path = tmp_path_factory.mktemp("bit") / LAST_CHECKPOINT
    written = {"weights": torch.arange(40.0), "step": 3, "names": ["a", "b"]}
    torch.save(written, path)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert checkpoint_to_resume(path.parent) == path
        read = read_plain_checkpoint(path)
    except UserError:
        return
    assert torch.equal(read["weights"], written["weights"]) and {**read, "weights": 0} == {**written, "weights": 0}


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "other"])
def test_a_damaged_checkpoint_is_named(whole, tmp_path, damage):
    run = RunFolder(shutil.copytree(whole("feature").root, tmp_path / "run"))
    path = run.checkpoints / LAST_CHECKPOINT
    (run.checkpoints / PREVIOUS_CHECKPOINT).unlink()
    if damage == "other":
        torch.save({"model": {"weight": torch.zeros(1)}}, path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(UserError, match=r"last\.ckpt: "):
        trained(tiny(), run.root, resume=True)
