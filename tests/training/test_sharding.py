"""What sharing weights out rests on, in one process; `test_processes.py` does it with two."""

from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from diffusionmtl.errors import UserError
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.run import check_machine
from diffusionmtl.training.sharding import shard, whole, whole_weights
from tests.runs import tiny
from tests.training import several


def gradients(trained: TrainingModule, batch) -> dict[str, torch.Tensor]:
    trained.zero_grad()
    trained._owed(batch, "train", 0).total.backward()
    return {name: p.grad.clone() for name, p in trained.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["feature", "prediction", "multitask"])
def test_a_network_that_keeps_in_step_learns_the_same(method):
    trained = several.module(method, taught=False, recomputed=False).double()
    batches = several.batches(0, 1)
    before = [gradients(trained, batch) for batch in batches]
    trained.network.keep_in_step()
    for batch, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(gradients(trained, batch), expected, rtol=1e-12, atol=1e-12)


def test_a_network_that_keeps_in_step_answers_as_often_as_it_was_asked():
    trained = several.module("feature", taught=False, recomputed=False).double()
    trained.network.keep_in_step()
    for batch in several.batches(1, 2):
        owed = trained._owed(batch, "train", 0)
        assert {task: len(losses) for task, losses in owed.final.items()} == {
            task: len(labels.rows) for task, labels in batch.labels.items()
        }


def test_a_weight_that_is_a_single_number_is_refused():
    module = nn.Linear(2, 2)
    module.scale = nn.Parameter(torch.tensor(2.0))
    with pytest.raises(UserError, match="--strategy fsdp: weight scale is a single number"):
        shard(module, Mock(spec=DeviceMesh))


def test_what_is_whole_stays_as_it_is_and_shared_weights_are_named_once():
    network = nn.ModuleDict({"a": nn.BatchNorm1d(2)})
    network["b"] = network["a"]
    assert whole_weights(network).keys() == {f"a.{name}" for name in network["a"].state_dict()}
    held = {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
    assert whole(held) == held


def test_loaded_moments_are_laid_out_like_their_weights():
    def steps(layout: torch.memory_format | None) -> torch.Tensor:
        torch.manual_seed(0)
        trained = several.module("multitask", taught=False, recomputed=False)
        trained.network.to(memory_format=torch.channels_last)
        optimizer = trained.configure_optimizers()["optimizer"]
        weight = trained.network.initial.fusion.conv.weight
        weight.grad = torch.randn_like(weight)
        optimizer.step()
        state = optimizer.state_dict()
        for kept in state["state"].values():
            for name in ("exp_avg", "exp_avg_sq"):
                kept[name] = kept[name].contiguous(memory_format=layout) if layout else kept[name]
        optimizer.load_state_dict(state)
        optimizer.step()
        return weight.detach()

    assert torch.equal(steps(torch.contiguous_format), steps(None))


@pytest.mark.parametrize("devices", [1, 2])
def test_processors_may_share_weights_out(devices):
    check_machine(tiny(strategy="fsdp", devices=devices, accelerator="cpu").train)


def test_scaled_losses_are_refused():
    with pytest.raises(UserError, match="--precision 16-mixed: not together with --strategy fsdp"):
        tiny(strategy="fsdp", precision="16-mixed")
