"""What a run leaves on disk: the checkpoint to resume from and the weights to predict with, never half written."""

import errno
import io
import math
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diffusionmtl.errors import UserError
from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.models.network import Network
from diffusionmtl.models.pretrained import check_stored, read_plain_checkpoint, save_tensors
from diffusionmtl.runfolder import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT
from diffusionmtl.training.sharding import local, parts_like, shard, whole_weights
from diffusionmtl.training.together import any_of


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the old checkpoint and renames; Lightning's own way copies when TMPDIR is on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write.

        Raises:
            UserError: the disk is full or the folder not writable; the previous checkpoint is still there.
        """
        stream = io.BytesIO()
        torch.save(checkpoint, stream)
        try:
            _keep_as_previous(Path(path))
            write_bytes_atomically(Path(path), stream.getvalue())
        except OSError as error:
            raise _unwritten(Path(path), error) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read without running code.

        Raises:
            UserError: missing, damaged or not a checkpoint.
        """
        checkpoint = dict(read_plain_checkpoint(Path(path)))
        if not isinstance(checkpoint.get("optimizer_states"), list) or not _plain_weights(checkpoint):
            raise UserError(f"{path}: not a checkpoint of a training run; remove it to start the run again")
        return checkpoint


def checkpoint_to_resume(folder: Path) -> Path:
    """The last checkpoint, or the one before it if the bytes of the last are not those that were written.

    Raises:
        UserError: neither is whole.
    """
    found = [folder / name for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT) if (folder / name).is_file()]
    faults = [_fault(path) for path in found]
    for path, fault in zip(found, faults, strict=True):
        if fault is None:
            if path != found[0]:
                print(f"warning: {found[0]}: {faults[0]}; going on from {path.name}, which is older", file=sys.stderr)
            return path
    raise UserError(f"{found[0]}: {faults[0]}, and there is no whole one before it; start the run again")


def _plain_weights(checkpoint: Mapping[str, Any]) -> bool:
    weights = checkpoint.get("state_dict")
    return isinstance(weights, Mapping) and all(isinstance(value, torch.Tensor) for value in weights.values())


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, by the checksums that every part of it carries."""
    try:
        check_stored(path)
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except Exception as error:  # a damaged archive makes its reader throw anything
        return f"damaged ({str(error)[:100] or type(error).__name__})"
    return None if part is None else f"damaged (the checksum of {part} is wrong)"


def _keep_as_previous(path: Path) -> None:
    """Give what lies at `path` a second name, which costs no room where the disk knows hard links."""
    if not path.is_file():
        return
    second = path.with_name(f".{PREVIOUS_CHECKPOINT}.part")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:
        shutil.copyfile(path, second)
    second.replace(path.with_name(PREVIOUS_CHECKPOINT))


class Average(Callback):
    """An exponential moving average of the weights, which validation and prediction use instead of the weights."""

    def __init__(self, network: Network, decay: float) -> None:
        self._live = network
        move = get_ema_multi_avg_fn(decay)

        def move_parts(averages: Sequence[Tensor], weights: Sequence[Tensor], seen: Any) -> None:
            move([local(x) for x in averages], [local(x) for x in weights], seen)

        self._average = AveragedModel(network, multi_avg_fn=move_parts, use_buffers=True)

    @property
    def network(self) -> Network:
        """The network with averaged weights."""
        return self._average.module  # pyright: ignore[reportReturnType]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Onto the device, cut up as the weights will be."""
        if pl_module.device_mesh is not None:
            shard(self.network, pl_module.device_mesh)
        self._average.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the new weights in."""
        self._average.update_parameters(self._live)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on from the weights themselves."""
        self._swap()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the network."""
        self._live.load_state_dict(self.network.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The average and how many weights it has seen."""
        return self._average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The average and how many weights it has seen."""
        self._average.load_state_dict(parts_like(self._average.state_dict(), state_dict))

    def _swap(self) -> None:
        live, average = self._live.state_dict(), self.network.state_dict()
        kept = {key: value.clone() for key, value in live.items()}
        self._live.load_state_dict(average)
        self.network.load_state_dict(kept)


class Keep(Checkpoint):
    """After every epoch writes the last weights, the best ones by held-out loss, and the checkpoint to resume from.

    In this order: a run that dies in between repeats the epoch and writes the same bytes again.

    Args:
        folder: where the files go.
        description: plain data that goes into every weights file, enough to build the network again.
        every: seconds between checkpoints within an epoch; 0 writes none.
        average: whose weights are written instead of those that are trained.
    """

    def __init__(
        self, folder: Path, description: dict[str, Any], every: float = 0.0, average: Average | None = None
    ) -> None:
        self.folder, self.description, self.every, self.average = folder, description, every, average
        self.best = float("inf")
        self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best loss so far."""
        self.best = state_dict["best"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint if it is time, but not after an epoch's last step: its end is about to do it."""
        if not self.every or trainer.is_last_batch:
            return
        if any_of(time.monotonic() - self._written >= self.every, pl_module.device):
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)
            self._written = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write everything.

        Raises:
            UserError: the disk is full or the folder not writable; what was written before is still there.
        """
        loss = float(trainer.callback_metrics.get("dev/total", math.inf))
        if trainer.strategy.broadcast(loss < self.best):
            self.best = loss
            self._save("best.safetensors", trainer, pl_module)
        self._save("last.safetensors", trainer, pl_module)
        trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)
        self._written = time.monotonic()

    def _save(self, name: str, trainer: Trainer, pl_module: LightningModule) -> None:
        network: Any = pl_module.network if self.average is None else self.average.network
        weights = whole_weights(network)
        if not trainer.is_global_zero:
            return
        progress = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        try:
            save_tensors(weights, self.folder / name, {**self.description, "progress": progress})
        except OSError as error:
            raise _unwritten(self.folder / name, error) from error


def _unwritten(path: Path, error: OSError) -> UserError:
    there = "; the previous one is still there" if path.is_file() else ""
    mend = "make it writable" if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else "make room"
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}){there}: {mend}, then continue with --resume"
    )
