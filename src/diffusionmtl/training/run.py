"""A training run: the folder it lives in, from settings to finished weights, resumable at any time."""

import logging
import warnings
from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from diffusionmtl.build import TrainingData, describe_run
from diffusionmtl.config import Settings, TrainSettings
from diffusionmtl.models.network import Network
from diffusionmtl.runfolder import LAST_CHECKPOINT, RunFolder
from diffusionmtl.training.callbacks import KeepNetwork, RefuseNonFinite, Stopped, StopWhenAsked
from diffusionmtl.training.module import TrainingModule

__all__ = ["Stopped", "fit"]


def fit(
    network: Network,
    settings: Settings,
    data: TrainingData,
    folder: RunFolder,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train, or go on training, and leave the weights in the run folder.

    Args:
        network: as built from the settings; holds the last weights afterwards.
        settings: of this run; when resuming, those that it was started with.
        data: train and held-out loaders with the task set.
        folder: where it writes.
        resume: continue from the folder's last checkpoint.
        progress: draw progress bars.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the run can be resumed.
        UserError: the checkpoint does not fit, or the loss is no longer a number.
    """
    module = TrainingModule(network, settings.train, len(data.train))
    if resume:
        folder.set_log_aside()
    with warnings.catch_warnings(), _quiet_lightning():
        _ignore_advice()
        trainer = _trainer(settings, folder, describe_run(settings, data.tasks), bool(data.dev), progress)
        trainer.fit(
            module,
            data.train,
            data.dev,
            ckpt_path=folder.checkpoints / LAST_CHECKPOINT if resume else None,
            weights_only=True,
        )


def _trainer(
    settings: Settings, folder: RunFolder, description: dict[str, Any], dev: bool, progress: bool
) -> lightning.Trainer:
    train = settings.train
    return lightning.Trainer(
        max_epochs=train.epochs,
        accelerator=train.accelerator,
        devices=1,
        precision=train.precision,  # pyright: ignore[reportArgumentType]
        gradient_clip_val=train.clip or None,
        logger=[CSVLogger(folder.log, name="", version=""), TensorBoardLogger(folder.log, name="", version="")],
        callbacks=_callbacks(train, folder, description),
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=None if dev else 0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
    )


def _callbacks(train: TrainSettings, folder: RunFolder, description: dict[str, Any]) -> list[Callback]:
    every = timedelta(minutes=train.checkpoint_every) if train.checkpoint_every else None
    checkpoints = [
        ModelCheckpoint(folder.checkpoints, filename="last", save_top_k=1, enable_version_counter=False),
        *([_within_epochs(folder, every)] if every else []),
    ]
    averaging = [EMAWeightAveraging(decay=train.ema)] if train.ema else []
    # Averaging swaps the weights at the end of training and for validation, so it comes before those who write them.
    return [
        *averaging,
        StopWhenAsked(folder.checkpoints),
        RefuseNonFinite(),
        KeepNetwork(folder.checkpoints, description),
        *checkpoints,
    ]


def _within_epochs(folder: RunFolder, every: timedelta) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder.checkpoints,
        filename="last",
        save_top_k=1,
        train_time_interval=every,
        enable_version_counter=False,
    )


class _quiet_lightning:
    """Lightning's advertisements and hardware lists stay out of the terminal; its errors do not."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)


def _ignore_advice() -> None:
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*lr_scheduler.step.*",
        ".*smaller than the logging interval.*",
        ".*is deprecated, use `isinstance.treespec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
