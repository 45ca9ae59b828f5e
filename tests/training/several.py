"""Three steps of training in one of several processes: `python -m tests.training.several OUT METHOD
SELF_TRAINING STRATEGY [recomputed|light]`.

With a checkpoint OUT.before they go on from it, which was the end.

Every process gets its rows of the same global batches; the environment says which process it is, as torchrun does.
"""

import os
import sys
import warnings
from pathlib import Path

import lightning
import numpy as np
import torch

from benchmarks import networks as given
from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings, Settings, changed
from diffusionmtl.data.collate import collate
from diffusionmtl.data.partition import Partition
from diffusionmtl.models.recompute import Again
from diffusionmtl.models.synced import synchronise
from diffusionmtl.training.callbacks import LogSteps
from diffusionmtl.training.extra import Extra
from diffusionmtl.training.keeping import AtomicCheckpoints
from diffusionmtl.training.module import TrainingModule
from diffusionmtl.training.sharding import Sharded, local, whole
from diffusionmtl.training.teacher import self_training
from diffusionmtl.training.views import samples_of
from diffusionmtl.training.xtc import cross_task_consistency
from tests.conformance.resnet import thin_backbone
from tests.toy import TASKS

SIZE = (32, 64)
IMAGES = 4
PIECES = (slice(0, 3), slice(3, 4))
# Per step and image, which of the five tasks is labelled. With two processes the first has images 0 and 1.
LABELS = (
    [[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],  # the second has no label at all
    [[1, 0, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 0]],  # each lacks tasks that the other has
    [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]],  # nobody has most tasks
)


class Record(lightning.Callback):
    """Keeps what every step did."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        found = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}
        self.gradients.append(whole(found))


class Log(lightning.pytorch.loggers.logger.DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict] = []

    def log_metrics(self, metrics, step=None):
        self.rows.append(metrics)


def batches(rank: int, world: int) -> list:
    share = IMAGES // world
    mine = slice(rank * share, (rank + 1) * share)
    whole = [given.batch(TASKS, SIZE, np.asarray(mask, dtype=bool)) for mask in LABELS]
    return [collate(samples_of(batch, TASKS)[mine], TASKS) for batch in whole]


def module(method: str, taught: bool, recomputed: Again) -> TrainingModule:
    torch.manual_seed(0)
    sizes = NetworkSettings(method=method, width=8, blocks=1, attention_heads=2, token_stride=2, decoder_blocks=1)
    network = build_network(TASKS, sizes, backbone=thin_backbone((4, 4, 6, 8), (1, 1, 1, 1)))
    synchronise(network)
    extra: Extra | None = None
    if method == "xtc":
        extra = cross_task_consistency(TASKS, 8, 8, 1.0, 1.0, True, 0)
        extra.synchronise()
    if taught:
        partition = Partition({str(n): frozenset() if n else frozenset({"depth"}) for n in range(2)}, "a test")
        extra = self_training(network, TASKS, partition, weight=1.0, initial_weight=0.5, total_steps=3)
        assert extra is not None
        extra.judges = lambda step: True
        extra._ramp = lambda step: 1.0
    chosen = changed(Settings(), method=method, epochs=3, lr=1e-2, checkpoint_activations=recomputed)
    return TrainingModule(network, TASKS, chosen.train, 1, extra)


def main(out: Path, method: str, taught: bool, strategy: str, recomputed: Again) -> None:
    warnings.simplefilter("ignore")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    trained, record, log = module(method, taught, recomputed).double(), Record(), Log()
    LogSteps.on_train_batch_end.__globals__["LOG_EVERY"] = 1
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=world,
        strategy="auto" if world == 1 else Sharded(world) if strategy == "fsdp" else strategy,
        gradient_clip_val=0.1,
        max_epochs=1,
        callbacks=[LogSteps(), record],
        logger=log,
        plugins=[AtomicCheckpoints()],
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        inference_mode=strategy != "fsdp",
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    before = out.with_suffix(".before")
    start = before if before.exists() else None
    loader = torch.utils.data.DataLoader(batches(rank, world), batch_size=None)
    # What is held out is seen whole by every process, in pieces of another size than those of training.
    held_out = [collate(samples_of(batch, TASKS)[rows], TASKS) for batch in batches(0, 1) for rows in PIECES]
    shown = torch.utils.data.DataLoader(held_out, batch_size=None)
    trainer.fit(trained, loader, shown, ckpt_path=start, weights_only=True)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("dev/")}
    weights = whole({name: value.detach() for name, value in trained.state_dict().items()})
    held = sum(local(p).numel() for p in trained.parameters()) / sum(p.numel() for p in trained.parameters())
    trainer.save_checkpoint(out.with_suffix(".ckpt"))
    if rank == 0:
        kept = {"held": held, "weights": weights, "gradients": record.gradients, "dev": scores}
        torch.save({**kept, "log": [row for row in log.rows if "train/total" in row]}, out)


if __name__ == "__main__":
    again = "light" if "light" in sys.argv else "recomputed" in sys.argv
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "taught", sys.argv[4], again)
