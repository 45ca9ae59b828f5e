"""What happens beside the optimisation: stopping when asked, keeping weights, refusing to go on with broken numbers."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from diffusionmtl.errors import UserError
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.runfolder import LAST_CHECKPOINT
from diffusionmtl.training.module import TrainingModule

LOOK_EVERY = 10


class Stopped(Exception):
    """Training ended early because it was asked to, and can be resumed."""


class StopWhenAsked(Callback):
    """Turns the first Ctrl-C or SIGTERM into a checkpoint and an orderly end after the current step.

    A signal may arrive in the middle of an optimiser step, when the weights are half old and half new; so it only
    leaves a note, and the end of the step reads it. A second signal ends the process at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to.

        Raises:
            Stopped: asking Lightning to stop instead would make it end the epoch as if it were complete.
        """
        if self.asked:
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)
            raise Stopped

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen no more."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Listen no more."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


class KeepNetwork(Callback):
    """After every epoch writes the checkpoint to resume from, the last weights, and the best ones by held-out loss.

    Attributes:
        description: plain data that goes into every weights file, enough to build the network again.
    """

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.description = description
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best loss so far."""
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        if not isinstance(pl_module, TrainingModule) or not trainer.is_global_zero:
            return
        dev = trainer.callback_metrics.get("dev/total")
        progress = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        description = {**self.description, "progress": progress}
        if dev is not None and float(dev) < self.best:
            self.best = float(dev)
            save_network(pl_module.network, self.folder / "best.safetensors", description)
        save_network(pl_module.network, self.folder / "last.safetensors", description)


class RefuseNonFinite(Callback):
    """Ends the run when the loss is no longer a number; the checkpoint of the epoch before stays."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look every so often only: reading the loss makes the host wait for the device."""
        if trainer.global_step % LOOK_EVERY or not isinstance(outputs, dict):
            return
        if not bool(torch.isfinite(outputs["loss"])):
            parts = [
                name.removeprefix("train/final/")
                for name, value in trainer.callback_metrics.items()
                if name.startswith("train/") and not bool(torch.isfinite(value))
            ]
            raise UserError(
                f"step {trainer.global_step}: the loss is not finite (task {', '.join(parts) or 'unknown'}; images "
                f"{', '.join(batch.names[:4])}...); lower --lr or --clip, then continue with --resume"
            )
