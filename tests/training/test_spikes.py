"""A step with a gradient out of all proportion leaves the weights as they were."""

import pytest
import torch
from lightning.pytorch import Callback

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
