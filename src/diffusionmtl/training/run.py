"""A training run: the folder it lives in, from settings to finished weights, resumable at any time."""

import logging
import signal
import sys
import warnings
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import Strategy

from diffusionmtl.build import REFINING, TrainingData, describe_run
from diffusionmtl.config import Settings, TrainSettings
from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.models.network import Network
from diffusionmtl.models.synced import synchronise
from diffusionmtl.processes import is_first
from diffusionmtl.runfolder import RunFolder
from diffusionmtl.training.callbacks import LogSteps, RefuseNonFinite, SaySteps, Stopped, StopWhenAsked
from diffusionmtl.training.extra import Extra
from diffusionmtl.training.keeping import AtomicCheckpoints, Average, Keep, checkpoint_to_resume
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.sharding import Sharded
from diffusionmtl.training.spikes import SkipSpikes
from diffusionmtl.training.teacher import self_training
from diffusionmtl.training.xtc import cross_task_consistency

__all__ = ["Stopped", "check_machine", "fit"]

GONE = (
    "another process of this run has ended or cannot be reached; its own output says why. Mend that and continue with "
    "--resume, with as many processes as you like"
)
LOST = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Timed out waiting", "NCCL")


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
        network: as built from the settings; holds the last weights afterwards, or this process's part of them.
        settings: of this run; when resuming, those that it was started with.
        data: train and held-out loaders with the task set.
        folder: where it writes.
        resume: continue from the folder's last checkpoint.
        progress: draw progress bars.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the run can be resumed.
        UserError: the checkpoint does not fit, the loss is no longer a number, or another process is gone.
    """
    train = settings.train
    if train.sync_batchnorm and train.processes > 1:
        synchronise(network)
    # Convolutions are a quarter to a half faster this way round, on CPUs and on tensor cores.
    network.to(memory_format=torch.channels_last)
    start = checkpoint_to_resume(folder.checkpoints) if resume else None
    if is_first(train.processes):
        folder.clear_unfinished()
        if resume:
            folder.set_log_aside()
    with warnings.catch_warnings(), _quiet_lightning():
        _ignore_advice()
        callbacks = _callbacks(network, train, folder, describe_run(settings, data.tasks))
        trainer = _trainer(train, folder, callbacks, data.dev is not None, progress)
        data.train.sampler.divide(trainer.global_rank, trainer.world_size)
        extra = _extra(network, settings, data)
        if extra is not None and train.sync_batchnorm and train.processes > 1:
            extra.synchronise()
        module = TrainingModule(network, data.tasks, train, len(data.train), extra)
        before = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(
                module,
                data.train,
                data.dev,
                ckpt_path=start,
                weights_only=True,
            )
        except SystemExit:  # Lightning's answer to a KeyboardInterrupt, after which it lets nobody interrupt again
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            if train.processes > 1 and any(word in str(error) for word in LOST):
                raise UserError(GONE) from error
            raise


def _extra(network: Network, settings: Settings, data: TrainingData) -> Extra | None:
    train, method = settings.train, settings.network.method
    taught = train.self_training == "always" or (train.self_training == "auto" and method in REFINING)
    if method == "xtc":
        return cross_task_consistency(
            data.tasks,
            settings.network.width,
            train.xtc_width,
            train.xtc_weight,
            train.xtc_table_lr,
            train.xtc_second_view,
            train.seed,
        )
    if not taught:
        return None
    return self_training(
        network,
        data.tasks,
        data.partition,
        weight=train.teacher_weight,
        initial_weight=train.initial_weight,
        total_steps=train.epochs * len(data.train),
    )


def check_machine(train: TrainSettings) -> None:
    """See that there is such a device and arithmetic, before anything else is done.

    Raises:
        UserError: there is not.
    """
    with warnings.catch_warnings(), _quiet_lightning():
        warnings.simplefilter("ignore")
        try:
            lightning.Trainer(
                accelerator=train.accelerator,
                devices=train.devices,
                num_nodes=train.nodes,
                strategy=_strategy(train),
                precision=train.precision,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
            reason = in_one_line(error, 200)
            asked = f"--accelerator {train.accelerator} --devices {train.devices} --strategy {train.strategy}"
            raise UserError(f"{asked} --precision {train.precision}: {reason}") from None


def _trainer(
    train: TrainSettings, folder: RunFolder, callbacks: list[Callback], dev: bool, progress: bool
) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=train.epochs,
        accelerator=train.accelerator,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy=_strategy(train),
        precision=train.precision,
        inference_mode=train.strategy != "fsdp",  # what is gathered in that mode cannot be trained afterwards
        gradient_clip_val=train.clip or None,
        logger=[CSVLogger(folder.log, name="", version=""), TensorBoardLogger(folder.log, name="", version="")],
        callbacks=[*callbacks, *_shown(progress)],
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=progress and _watched(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=None if dev else 0,
        use_distributed_sampler=False,
    )


def _strategy(train: TrainSettings) -> str | Strategy:
    if train.strategy != "fsdp":
        return train.strategy
    return Sharded(train.processes) if train.processes > 1 else "auto"


def _shown(progress: bool) -> list[Callback]:
    if not progress:
        return []
    return [TQDMProgressBar()] if _in_notebook() else [SaySteps()]


def _watched() -> bool:
    """Whether bars move before somebody's eyes; in a file each of their moves would be a line."""
    return _in_notebook() or sys.stdout.isatty()


def _in_notebook() -> bool:
    """Whether a notebook shows what is printed: the bars that Lightning prefers, of rich, hang there."""
    return "ipykernel" in sys.modules


def _callbacks(
    network: Network, train: TrainSettings, folder: RunFolder, description: dict[str, Any]
) -> list[Callback]:
    average = Average(network, train.ema) if train.ema else None
    # Whoever writes weights or stops comes after those who change, look at and log them.
    return [
        *([SkipSpikes(train.skip_spikes)] if train.skip_spikes else []),
        *([average] if average else []),
        LogSteps(),
        RefuseNonFinite(),
        StopWhenAsked(folder.checkpoints),
        Keep(folder.checkpoints, description, 60 * train.checkpoint_every, average),
    ]


class _SayWhatToDo(logging.Handler):
    """Lightning kills this process once it has seen another die, and says so to nobody but this logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if "terminated with code" in record.getMessage():
            print(f"\ndiffusionmtl: {GONE}", file=sys.stderr, flush=True)


class _quiet_lightning:
    """Lightning's advertisements and hardware lists stay out of the terminal; its errors do not."""

    def __enter__(self) -> None:
        self._observer = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
        self._observer.setLevel(logging.INFO)
        self._observer.propagate = False
        self._handler = _SayWhatToDo()
        self._observer.addHandler(self._handler)
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._observer.removeHandler(self._handler)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)


def _ignore_advice() -> None:
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*lr_scheduler.step.*",
        ".*smaller than the logging interval.*",
        ".*Experiment logs directory.*",
        ".*no `val_dataloader`.*",
        ".*is deprecated, use `isinstance.treespec.*",
        ".*sync_dist=True.*",
        ".*returned a view tensor.*",
    ):
        warnings.filterwarnings("ignore", message=message)
