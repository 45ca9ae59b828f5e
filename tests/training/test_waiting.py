"""Between batch and backward nobody asks the device for a number, so that the host is always ahead of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import networks as given
from benchmarks.counting import META
from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings, Settings, changed
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.transfer import picked
from tests.conformance.resnet import thin_backbone
from tests.toy import TASKS

SIZE = (64, 96)
ASKING = {"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.unique", "aten.is_nonzero"}


def module(method: str) -> TrainingModule:
    sizes = NetworkSettings(method=method, width=8, blocks=1, attention_heads=2, token_stride=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(TASKS, sizes, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1)))
    made = TrainingModule(network, TASKS, changed(Settings(), method=method).train, steps_per_epoch=1).train()
    made.log = lambda *_args, **_words: None
    return made


def batch(mask) -> given.Batch:
    return given.batch(TASKS, SIZE, np.asarray(mask, dtype=bool))


PARTLY = [[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]


class Asked(TorchDispatchMode):
    """Lists what is asked of tensors that hold computed values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).rpartition(".")[0]
        masks = [x for x in args[1] or () if x is not None] if name in ("aten.index", "aten.index_put") else []
        if name in ASKING or any(x.dtype == torch.bool for x in masks):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["feature", "prediction", "multitask"])
def test_a_training_step_runs_where_no_number_can_be_read(method):
    """The meta device has none; what is known on the host stays there."""
    trained = module(method).to(META)
    owed = trained.training_step(batch(PARTLY).to(META), 0)
    owed["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.device == META for parameter in trained.parameters())


@pytest.mark.parametrize("method", ["feature", "prediction", "multitask"])
def test_nothing_has_a_size_that_depends_on_values(method):
    trained, asked = module(method), Asked()
    with asked:
        trained.training_step(batch(PARTLY), 0)["loss"].backward()
    assert asked.found == []


def test_the_audit_hears_a_question():
    asked = Asked()
    x = torch.arange(3.0)
    with asked:
        x.sum().item()
        x[x > 1]
    assert asked.found == ["aten._local_scalar_dense", "aten.index"]


def test_which_images_are_labelled_stays_on_the_host():
    moved = batch(PARTLY).to(META)
    assert moved.image.device == META and moved.pairs_per_image.tolist() == [2, 2, 1]
    for task, column in zip(TASKS, np.asarray(PARTLY).T, strict=True):
        labels = moved.labels[task.name]
        assert labels.value.device == labels.valid.device == META
        assert labels.rows.tolist() == np.flatnonzero(column).tolist()


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1, 1], []])
def test_picking_images(rows):
    x, at = torch.arange(12.0).view(3, 4), torch.tensor(rows, dtype=torch.int64)
    assert torch.equal(picked(x, at), x[at])


@pytest.mark.parametrize("method", ["feature", "prediction"])
def test_a_task_without_labels_costs_no_backward_pass(method):
    """Its decoder takes part in the statistics of the batch and in the condition, and gets a gradient of zero."""
    network = module(method).network.train()
    decoder, before = network.initial.decoders["semseg"], {}
    decoder[0].conv1.register_forward_hook(lambda _module, _given, output: before.setdefault("output", output))
    mask = [[0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    rows = {task: labels.rows for task, labels in batch(mask).labels.items()}
    statistics = decoder[0].bn1.running_mean.clone()
    output = network(batch(mask).image, SeededNoise(0, (0, 1)), rows)
    sum((raw.sum() for raw in output.final.values()), Tensor()[:0].sum()).backward()
    assert not before["output"].requires_grad
    assert not torch.equal(decoder[0].bn1.running_mean, statistics)
    assert all(p.grad is not None and not p.grad.any() for p in decoder.parameters())
    assert output.final["semseg"].shape == (0, 4, 8, 12) and output.initial["semseg"].shape == (0, 4, 8, 12)


@pytest.mark.parametrize("method", ["feature", "multitask"])
def test_a_batch_without_any_label_gives_each_parameter_a_gradient_of_zero(method):
    trained = module(method)
    loss = trained.training_step(batch(np.zeros((2, 5))), 0)["loss"]
    loss.backward()
    assert loss == 0
    used = [p for name, p in trained.named_parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in used)


def test_channels_last_changes_nothing():
    plain, last = module("feature").network.train(), module("feature").network.train()
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)
    images = replace(batch(PARTLY), names=("a", "b", "c"))
    rows = {task: labels.rows for task, labels in images.labels.items()}
    for network in (plain, last):
        output = network(images.image, SeededNoise(0, (0, 1, 2)), rows)
        sum((raw.square().sum() for raw in output.final.values()), torch.zeros(())).backward()
    pairs = {name: (p.grad, q.grad) for (name, p), q in zip(plain.named_parameters(), last.parameters(), strict=True)}
    assert all((mine is None) == (theirs is None) for mine, theirs in pairs.values())
    largest = max(float(mine.abs().max()) for mine, _ in pairs.values() if mine is not None)
    for mine, theirs in pairs.values():
        if mine is not None:
            # A bias before a normalisation has no gradient but rounding.
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * largest)
