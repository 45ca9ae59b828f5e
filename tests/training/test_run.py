"""Whole training runs: what they leave, and that an interrupted one ends exactly like one that was not."""

import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback

from diffusionmtl.build import build_dataset, build_network, build_training_data, restore_run
from diffusionmtl.cli import main
from diffusionmtl.config import read_yaml
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.load import load
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.run import Stopped, fit
from tests.runs import Interrupt, assert_equal, assert_same_run, log_every_step, tiny, trained, with_callback
from tests.toy import ToyDataset

STEPS_PER_EPOCH = 2
VARIANTS = {
    "feature": dict(),
    "prediction": dict(method="prediction", ema=0.5, optimizer="adam", schedule="poly"),
    "multitask": dict(method="multitask", holdout=0.0, labels="random", rooms=9),
}


@pytest.fixture(autouse=True)
def _every_step_is_logged(monkeypatch):
    log_every_step(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Per variant a run that nobody interrupted, trained when first asked for."""
    runs: dict[str, RunFolder] = {}

    def run(variant: str) -> RunFolder:
        if variant not in runs:
            runs[variant] = trained(tiny(**VARIANTS[variant]), tmp_path_factory.mktemp(variant) / "run")
        return runs[variant]

    return run


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_leaves_what_the_design_says(whole, variant):
    run, settings = whole(variant), tiny(**VARIANTS[variant])
    there = {str(p.relative_to(run.root)) for p in run.root.rglob("*") if p.is_file() and "tfevents" not in p.name}
    best = {"checkpoints/best.safetensors"} if settings.data.holdout else set()
    assert there == best | {
        "config.yaml",
        "partition.txt",
        "checkpoints/last.ckpt",
        "checkpoints/last.safetensors",
        "log/metrics.csv",
        "log/hparams.yaml",
    }
    restored, tasks = restore_run(read_yaml(run.config), "config.yaml")
    assert restored == settings
    dataset = build_dataset(settings.data, "train")
    assert tasks == dataset.tasks
    drawn = make_partition(settings.data.labels, dataset, settings.data.label_seed)
    assert Partition.load(run.partition, dataset).digest() == drawn.digest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_is_logged_with_finite_losses(whole, variant):
    log = read_log(whole(variant))
    steps, losses = log.values["train/total"]
    assert steps == tuple(range(2 * STEPS_PER_EPOCH))
    assert all(np.isfinite(losses))
    expected = {"final"} if variant == "multitask" else {"final", "initial"}
    assert {column.split("/")[1] for column in log.values} == expected | {"total"}
    if variant != "multitask":
        assert log.values["dev/total"][0] == (1, 3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_that_learns_has_moved(whole, variant):
    settings = tiny(**VARIANTS[variant])
    fresh = build_network(build_dataset(settings.data, "train").tasks, settings.network, settings.train.seed)
    weights = read_network(whole(variant).checkpoints / "last.safetensors")[0]
    still = [name for name, value in fresh.named_parameters() if torch.equal(value, weights.get(name, value[:0]))]
    assert still == []


def test_the_same_settings_give_the_same_bits_and_another_seed_does_not(whole, tmp_path):
    assert_same_run(whole("feature"), trained(tiny(), tmp_path / "again"))
    other = trained(tiny(seed=1), tmp_path / "other")
    assert (other.checkpoints / "last.safetensors").read_bytes() != (
        whole("feature").checkpoints / "last.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_trained_is_what_is_loaded(variant, tmp_path):
    settings = tiny(**VARIANTS[variant], epochs=1)
    dataset = build_dataset(settings.data, "train")
    data = build_training_data(settings, dataset, make_partition("one", dataset, 0))
    network = build_network(dataset.tasks, settings.network)
    run = RunFolder(tmp_path / "run")
    fit(network, settings, data, run, progress=False)
    assert_equal(dict(network.state_dict()), dict(load(run.checkpoints / "last.safetensors").network.state_dict()), "")


def test_best_is_the_epoch_of_the_lowest_held_out_loss(tmp_path, monkeypatch):
    losses = {0: 3.0, 1: 1.0, 2: 2.0}
    monkeypatch.setattr(
        TrainingModule,
        "validation_step",
        lambda self, batch, index: self.log("dev/total", losses[self.current_epoch], batch_size=1),
    )
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(2 * STEPS_PER_EPOCH))
        with pytest.raises(Stopped):
            trained(tiny(epochs=3), tmp_path / "run")
    # The best loss so far is remembered over an interruption.
    run = trained(tiny(epochs=3), tmp_path / "run", resume=True)
    assert read_network(run.checkpoints / "best.safetensors")[1]["progress"] == {
        "epoch": 2,
        "step": 2 * STEPS_PER_EPOCH,
    }
    assert read_network(run.checkpoints / "last.safetensors")[1]["progress"] == {
        "epoch": 3,
        "step": 3 * STEPS_PER_EPOCH,
    }


class Weights(Callback):
    """Keeps the weights after every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append({k: v.detach().clone() for k, v in pl_module.network.named_parameters()})


def test_with_ema_the_average_is_what_is_kept_and_evaluated(tmp_path, monkeypatch):
    weights = Weights()
    with_callback(monkeypatch, weights)
    decay = 0.5
    run = trained(tiny(ema=decay), tmp_path / "run")
    average = weights.seen[0]
    for seen in weights.seen[1:]:
        average = {k: decay * average[k] + (1 - decay) * seen[k] for k in average}
    kept = load(run.root).network
    for name, value in kept.named_parameters():
        torch.testing.assert_close(value, average[name], msg=name)
    # Training itself goes on from the weights, not from their average.
    state = torch.load(run.checkpoints / LAST_CHECKPOINT, weights_only=True)["state_dict"]
    assert_equal({k: state[f"network.{k}"] for k in average}, weights.seen[-1], "")


def test_ema_is_what_is_validated(tmp_path):
    settings = tiny(ema=0.5)
    run = trained(settings, tmp_path / "run")
    dataset = build_dataset(settings.data, "train")
    data = build_training_data(settings, dataset, Partition.load(run.partition, dataset))
    module = TrainingModule(load(run.root).network, data.tasks, settings.train, 1).eval()
    with torch.no_grad():
        owed = [(module._owed(batch, "dev", 0).total, len(batch.names)) for batch in data.dev]
    mean = sum(float(total) * n for total, n in owed) / sum(n for _, n in owed)
    assert read_log(run).values["dev/total"][1][-1] == pytest.approx(mean, rel=1e-5)


def test_task_weights_scale_the_objective(tmp_path):
    run = trained(
        tiny(epochs=1, tasks=("depth", "semseg"), task_weights={"depth": 3.0}, labels="full"), tmp_path / "run"
    )
    _, tasks = restore_run(read_network(run.checkpoints / "last.safetensors")[1], "")
    assert {task.name: task.weight for task in tasks} == {"depth": 3.0, "semseg": 1.0}
    log = read_log(run).values
    step = [log[f"train/{part}/{task}"][1][0] for task in ("depth", "semseg") for part in ("final", "initial")]
    expected = 3 * (step[0] + 0.5 * step[1]) + step[2] + 0.5 * step[3]
    assert log["train/total"][1][0] == pytest.approx(expected, rel=1e-5)


def test_some_of_the_tasks_only(tmp_path):
    run = trained(tiny(epochs=1, tasks=("normals", "depth")), tmp_path / "run")
    assert [task.name for task in load(run.root).network.tasks] == ["depth", "normals"]
    assert set("\t".join(run.partition.read_text().splitlines()[3:]).split("\t")) >= {"depth", "normals"}
    assert "semseg" not in run.partition.read_text()


def test_weights_of_another_run_are_a_start(whole, tmp_path):
    start = whole("feature")
    run = trained(tiny(epochs=1, lr=1e-9, weight_decay=0.0, seed=5), tmp_path / "run", start_from=start.root)
    old, new = (dict(load(r.root).network.named_parameters()) for r in (start, run))
    for name, value in new.items():
        torch.testing.assert_close(value, old[name], atol=1e-6, rtol=0, msg=name)
    with pytest.raises(UserError, match="does not fit this network"):
        trained(tiny(width=8), tmp_path / "narrow", start_from=start.root)
    assert not (tmp_path / "narrow").exists()


# Interrupted and resumed


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


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "other"])
def test_a_damaged_checkpoint_is_named(whole, tmp_path, damage):
    run = RunFolder(shutil.copytree(whole("feature").root, tmp_path / "run"))
    path = run.checkpoints / LAST_CHECKPOINT
    if damage == "other":
        torch.save({"model": {"weight": torch.zeros(1)}}, path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(UserError, match=r"last\.ckpt: "):
        trained(tiny(), run.root, resume=True)


# Disks and numbers


class HalfWritten:
    """A stream on a disk that gets full halfway."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def write(self, data):
        self.stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["last.ckpt", "last.safetensors"])
def test_a_full_disk_costs_no_checkpoint(whole, tmp_path, monkeypatch, capsys, name):
    usual = Path.open
    writes = []

    def full_the_second_time(path, mode="r", *args, **kwargs):
        stream = usual(path, mode, *args, **kwargs)
        if "w" in mode and name in path.name:
            writes.append(path)
            return HalfWritten(stream) if len(writes) == 2 else stream
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
    assert "No space left on device" in said[0]
    assert "previous one is still there" in said[0]
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


# Hidden labels


def test_hidden_labels_influence_nothing(tmp_path):
    toy = ToyDataset(8, annotated={0: ("depth",)})
    export_folder(tmp_path / "honest", {"train": toy})
    shutil.copytree(tmp_path / "honest", tmp_path / "other")
    labels = tmp_path / "labels.txt"
    visible = {name: ("depth", "edge")[i % 2] for i, name in enumerate(toy.names)}
    labels.write_text("".join(f"{name}\t{task}\n" for name, task in visible.items()))
    corrupted = 0
    for path in sorted((tmp_path / "other/train").glob("*/*")):
        task = path.parent.name
        if task != "images" and visible[path.stem] != task:
            path.write_bytes(b"broken" if corrupted % 2 else b"")
            corrupted += 1
    assert corrupted > 20
    words = dict(labels=str(labels), fit=False, size=(24, 32), tasks=("semseg", "depth", "edge"))
    one, other = (
        trained(tiny(data=(str(tmp_path / name),), **words), tmp_path / f"run {name}") for name in ("honest", "other")
    )
    states = [torch.load(r.checkpoints / LAST_CHECKPOINT, weights_only=True) for r in (one, other)]
    assert_equal(*states, "checkpoint")
    assert read_log(one) == read_log(other)
    # And what may be seen does count.
    seen = tmp_path / "other/train/depth" / f"{toy.names[0]}.npy"
    np.save(seen, np.load(seen) + 1)
    changed = trained(tiny(data=(str(tmp_path / "other"),), **words), tmp_path / "changed")
    assert read_log(changed) != read_log(one)
