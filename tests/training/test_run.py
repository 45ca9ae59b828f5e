"""Whole training runs: what they leave, what is averaged, weighed, chosen and hidden."""

import shutil
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from diffusionmtl.build import build_dataset, build_network, build_training_data, restore_run
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.load import load
from diffusionmtl.models.pretrained import read_network
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.report.log import read_log
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from diffusionmtl.training import run as run_module
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.run import Stopped, fit
from tests.runs import STEPS_PER_EPOCH, VARIANTS, Interrupt, assert_equal, assert_same_run, tiny, trained, with_callback
from tests.toy import ToyDataset


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_leaves_what_the_design_says(whole, variant):
    run, settings = whole(variant), tiny(**VARIANTS[variant])
    there = {str(p.relative_to(run.root)) for p in run.root.rglob("*") if p.is_file() and "tfevents" not in p.name}
    best = {"checkpoints/best.safetensors"} if settings.data.holdout else set()
    assert there == best | {
        "config.yaml",
        "held-out.txt",
        "partition.txt",
        "provenance.json",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
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
    beside = {"multitask": set(), "xtc": {"extra"}}.get(variant, {"initial", "extra"})
    assert {column.split("/")[1] for column in log.values} == {"final", "total"} | beside
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


@pytest.mark.parametrize("method", ["feature", "xtc"])
def test_hidden_labels_influence_nothing(tmp_path, method):
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
    words = dict(labels=str(labels), fit=False, size=(24, 32), tasks=("semseg", "depth", "edge"), method=method)
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


def test_a_run_in_bfloat16_clips_too(tmp_path):
    run = trained(tiny(precision="bf16-mixed", clip=1.0, epochs=1), tmp_path / "run")
    weights, _ = read_network(run.checkpoints / "last.safetensors")
    assert all(weight.dtype != torch.bfloat16 and bool(torch.isfinite(weight).all()) for weight in weights.values())


@pytest.mark.parametrize(("terminal", "notebook"), [(False, False), (True, False), (False, True)])
def test_bars_move_before_eyes_alone(monkeypatch, terminal, notebook):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert run_module._watched() == (terminal or notebook)
