"""What happens beside the optimisation: the log, stopping when asked, refusing to go on with broken numbers."""

import math
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from diffusionmtl.errors import UserError
from diffusionmtl.pace import Pace
from diffusionmtl.runfolder import LAST_CHECKPOINT
from diffusionmtl.training.sharding import local
from diffusionmtl.training.together import any_of, least, means

LOG_EVERY = 10
LOOK_EVERY = 10
NAMES_SHOWN = 12


class SaySteps(Callback):
    """How far training is, for whoever reads its output in a file."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on."""
        self._pace, self._steps = Pace(), int(trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line, if it is time."""
        self._pace.say("training", trainer.global_step, self._steps, "steps")


class Stopped(Exception):
    """Training ended early because it was asked to, and can be resumed."""


class StopWhenAsked(Callback):
    """Turns the first Ctrl-C or SIGTERM into a checkpoint and an orderly end after the current step.

    A signal may arrive in the middle of an optimiser step, when the weights are half old and half new; so it only
    leaves a note, and the end of the step reads it; of several processes the end of every tenth, since all must stop
    there together. A second signal ends the process at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after this step; once more ends at once", file=sys.stderr)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to, unless this was the last step of an epoch: resumed there, Lightning would not validate.

        Raises:
            Stopped: asking Lightning to stop instead would make it end the epoch as if it were complete.
        """
        if trainer.global_step % LOOK_EVERY and trainer.world_size > 1:
            return
        if not trainer.is_last_batch and any_of(self.asked, pl_module.device):
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)
            raise Stopped

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs, where a checkpoint has just been written.

        Raises:
            Stopped: likewise.
        """
        if any_of(self.asked, pl_module.device):
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


class LogSteps(Callback):
    """Writes the losses of every tenth step to the loggers: of that step alone, so that a resumed run logs the same."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Every so often only: reading a loss makes the host wait for the device."""
        if trainer.global_step % LOG_EVERY:
            return
        found = {**outputs["means"], "total": outputs["loss"]}
        pairs = {
            f"{part}/{task}": len(labels.rows) for part in ("final", "initial") for task, labels in batch.labels.items()
        }
        counts = {**pairs, **{name: 1 for name in found if name not in pairs}}
        losses = {f"train/{name}": value for name, value in means(found, counts, pl_module.device).items()}
        losses["epoch"] = trainer.current_epoch
        for logger in trainer.loggers:
            logger.log_metrics(losses, step=trainer.global_step - 1)
            logger.save()


@dataclass(frozen=True)
class _Step:
    number: int
    loss: Tensor
    means: Mapping[str, Tensor]
    names: tuple[str, ...]


class RefuseNonFinite(Callback):
    """Ends the run when the loss is no longer a number, before a checkpoint or weights are written after it."""

    def __init__(self) -> None:
        self._unseen: list[_Step] = []
        self._last: tuple[str, ...] = ()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the weights, for a finite loss may have a gradient that is not.

        Raises:
            UserError: names the first weight that is no number, and the images of the last step.
        """
        self._look_at_weights(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look every so often and before an epoch ends.

        Raises:
            UserError: names the first step that went wrong, its tasks and images.
        """
        self._last = batch.names
        self._unseen.append(_Step(trainer.global_step, outputs["loss"], outputs["means"], batch.names))
        if len(self._unseen) >= LOOK_EVERY or trainer.is_last_batch:
            self._look(pl_module.device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look at both.

        Raises:
            UserError: likewise.
        """
        self._look(pl_module.device)
        self._look_at_weights(trainer, pl_module)

    def _look_at_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = pl_module.named_parameters()
        bad = next((name for name, weight in weights if not bool(torch.isfinite(local(weight)).all())), None)
        if any_of(bad is not None, pl_module.device):
            which = bad or "of another process"
            raise UserError(
                f"step {trainer.global_step}: weight {which} is not finite, though the loss is (images of the last "
                f"step: {_shown(self._last)}); look at their labels or start again with a lower --lr"
            )

    def _look(self, device: torch.device) -> None:
        steps, self._unseen = self._unseen, []
        mine = next((step for step in steps if not bool(torch.isfinite(step.loss))), None)
        first = least(math.inf if mine is None else float(mine.number), device)
        if first == math.inf:
            return
        if mine is None or mine.number > first:
            raise UserError(f"step {first:.0f}: the loss of another process is not finite; it says which")
        bad = [name for name, value in mine.means.items() if not bool(torch.isfinite(value))]
        tasks = dict.fromkeys(name.split("/", 1)[1] for name in bad)
        raise UserError(
            f"step {mine.number}: the loss is not finite (tasks: {', '.join(tasks) or 'unknown'}; images: "
            f"{_shown(mine.names)}); look at their labels or start again with a lower --lr"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
