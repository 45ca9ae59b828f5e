"""A step with a gradient out of all proportion leaves the weights as they were."""

import math
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from diffusionmtl.errors import UserError
from diffusionmtl.runfolder import LAST_CHECKPOINT
from diffusionmtl.training import spikes
from tests.runs import tiny, trained, with_callback

SPIKE = 2


class Watched(Callback):
    """Makes the gradients of one step a thousand times larger, and keeps the weights before and after every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._keep(pl_module)

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == SPIKE:
            for parameter in pl_module.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(1000)

    def on_train_end(self, trainer, pl_module):
        self._keep(pl_module)

    def _keep(self, pl_module) -> None:
        self.weights.append(torch.cat([p.detach().flatten().clone() for p in pl_module.network.parameters()]))


@pytest.mark.parametrize(("factor", "moves"), [(20.0, False), (1e9, True), (0.0, True)])
def test_a_spike_is_left_out(tmp_path, monkeypatch, capsys, factor, moves):
    monkeypatch.setattr(spikes, "WARM_UP", 1)
    watched = Watched()
    with_callback(monkeypatch, watched)
    run = trained(tiny(skip_spikes=factor), tmp_path / "run")
    moved = [not torch.equal(a, b) for a, b in zip(watched.weights, watched.weights[1:], strict=False)]
    assert moved == [n != SPIKE or moves for n in range(len(moved))] and len(moved) == 4
    assert ("step 2 left out: its gradient is" in capsys.readouterr().err) == (not moves)
    kept = torch.load(run.checkpoints / LAST_CHECKPOINT)["callbacks"]
    assert any("SkipSpikes" in name for name in kept) == bool(factor)


def step(callback: spikes.SkipSpikes, gradient: float) -> bool:
    """One step with a gradient of that norm; whether it was left out."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([gradient])
    trainer = Mock(spec=Trainer, is_global_zero=True, global_step=0)
    callback.on_before_optimizer_step(trainer, Mock(spec=LightningModule), torch.optim.SGD([weight]))
    return weight.grad is None


def test_what_is_no_number_is_never_usual():
    callback = spikes.SkipSpikes(10.0)
    for gradient in (math.inf, math.nan, *[1.0] * spikes.WARM_UP):
        assert not step(callback, gradient)
    assert callback.usual == 1.0 and callback.seen == spikes.WARM_UP
    for gradient in (math.inf, math.nan, 11.0):
        assert step(callback, gradient)
    assert not step(callback, 9.0) and callback.usual == pytest.approx(1 + 8 / (spikes.WARM_UP + 1))


def test_nothing_is_left_out_beside_gradients_of_zero():
    callback = spikes.SkipSpikes(10.0)
    for _ in range(spikes.WARM_UP):
        step(callback, 0.0)
    assert not step(callback, 1.0)


def test_a_network_that_is_cut_up_has_no_whole_norm():
    with pytest.raises(UserError, match="--skip-spikes 5.0: not together with --strategy fsdp"):
        tiny(skip_spikes=5.0, strategy="fsdp")
