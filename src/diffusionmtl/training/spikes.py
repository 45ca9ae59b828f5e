"""Steps whose gradient is far larger than usual are left out."""

import math
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

WARM_UP = 20
MEMORY = 0.98


class SkipSpikes(Callback):
    """Leaves the weights alone in a step whose gradient norm exceeds `factor` times its moving average, and says so.

    Clipping only shortens such a gradient; one broken label may still turn everything around. The norm is that before
    clipping, of all processes' images together. A step that is left out does not enter the average, nor does a norm
    that is not finite: 16-bit training begins with some, and passes over these steps itself.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.usual = 0.0
        self.seen = 0
        self._names: tuple[str, ...] = ()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember whose images these are."""
        self._names = batch.names

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the gradients away if they are too large; the optimiser passes over weights that have none."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.stack([gradient.norm().double() for gradient in gradients]).norm())
        # Nothing is large beside a gradient of 0; and a NaN is not larger than anything, but never usual.
        if self.seen >= WARM_UP and self.usual > 0 and not norm <= self.factor * self.usual:
            optimizer.zero_grad(set_to_none=True)
            if trainer.is_global_zero:
                print(
                    f"\nwarning: step {trainer.global_step} left out: its gradient is {norm / self.usual:.3g} times as "
                    f"large as usual (images: {', '.join(self._names[:4])}{', ...' if len(self._names) > 4 else ''})",
                    file=sys.stderr,
                )
            return
        if not math.isfinite(norm):
            return
        self.seen += 1
        # The mean of all at first, then a moving one.
        self.usual += max(1 - MEMORY, 1 / self.seen) * (norm - self.usual)

    def state_dict(self) -> dict[str, Any]:
        """What is usual."""
        return {"usual": self.usual, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What is usual."""
        self.usual, self.seen = state_dict["usual"], state_dict["seen"]
