"""The network as Lightning trains it."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning
import torch

from diffusionmtl.config import TrainSettings
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task
from diffusionmtl.training.extra import Extra, ParameterGroup, Seen, forward
from diffusionmtl.training.objective import Objective, objective
from diffusionmtl.training.sharding import shard
from diffusionmtl.types import Batch

POLY_POWER = 0.9


class TrainingModule(lightning.LightningModule):
    """One optimisation step, its schedule, and the numbers for the log.

    Every task goes through the network in every step, with no rows if the batch has no label of it: each parameter then
    always has a gradient, whatever labels a batch or a process happens to hold.

    Attributes:
        tasks: those of the network, with the weights of the objective.
        extra: what is asked of the network beside the labels, if anything.
    """

    def __init__(
        self,
        network: Network,
        tasks: Sequence[Task],
        settings: TrainSettings,
        steps_per_epoch: int,
        extra: Extra | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        network.recompute(settings.checkpoint_activations)
        self.extra = extra
        self.tasks = tuple(tasks)
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch

    def configure_model(self) -> None:
        """Share the weights out among the processes, the teacher's too, if the strategy says so."""
        if self.device_mesh is not None:
            self.network.keep_in_step()
            shard(self, self.device_mesh, ("training_step", "validation_step"))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches know how to move."""
        return batch.to(device, non_blocking=True)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The objective of a batch, as `loss`; beside it `means`, the mean loss per task and the extra terms."""
        if self.extra is None:
            owed = self._owed(batch, "train", self.global_step)
        else:
            owed = self._owed_with_extra(batch, self.extra)
        self.log("loss", owed.total.detach(), batch_size=len(batch.names), prog_bar=True, logger=False)
        return {"loss": owed.total, "means": owed.means()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same objective on images held out of training, always with the same noise.

        Every process sees all of them: then none is counted twice, and none is waited for.
        """
        owed = self._owed(batch, "dev", 0)
        pairs = int(batch.pairs_per_image.sum())
        self.log("dev/total", owed.total, batch_size=len(batch.names), prog_bar=True)
        for name, value in owed.means().items():
            self.log(f"dev/{name}", value, batch_size=pairs)

    def _owed(self, batch: Batch, phase: str, step: int) -> Objective:
        noise = SeededNoise(derive_seed(self.settings.seed, phase, step), batch.indices)
        rows = {task: labels.rows for task, labels in batch.labels.items()}
        output = self.network(batch.image, noise, rows)
        return objective(self.tasks, output, batch, self.settings.initial_weight)

    def _owed_with_extra(self, batch: Batch, extra: Extra) -> Objective:
        step = self.global_step
        seed = derive_seed(self.settings.seed, "extra", step)
        shown = extra.shown(batch, seed)
        if not extra.judges(step):
            return self._owed(shown, "train", step)
        view = extra.images(shown, seed)
        output, judged = forward(self.network, shown, view, derive_seed(self.settings.seed, "train", step))
        owed = objective(self.tasks, output, shown, self.settings.initial_weight)
        return owed.plus(extra.terms(self.network, Seen(batch, view or shown, judged, seed, step)))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's, and then whatever follows the weights, before anybody writes a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        if self.extra is not None:
            self.extra.after_step(self.network)

    def configure_optimizers(self) -> Any:
        """Adam as published, or AdamW that spares biases and norms, and the schedule."""
        groups = list(self._parameter_groups())
        # Fused is one pass over each weight and its moments instead of a dozen, on processors too. In mixed precision,
        # of either kind, Lightning refuses to clip for it, since it could scale gradients back by itself.
        fused = self.settings.precision == "32-true"
        if self.settings.optimizer == "adam":
            decay = self.settings.weight_decay
            optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, weight_decay=decay, fused=fused)
        else:
            optimizer = torch.optim.AdamW(groups, fused=fused)
        optimizer.register_load_state_dict_post_hook(_lay_out_alike)
        return {"optimizer": optimizer, "lr_scheduler": self._schedule(optimizer)}

    def _parameter_groups(self) -> Iterator[dict[str, Any]]:
        body = {id(p) for p in self.network.initial.backbone.parameters()}
        inside, outside = ([p for p in self.network.parameters() if (id(p) in body) == side] for side in (True, False))
        groups = [ParameterGroup(inside, self.settings.backbone_lr), ParameterGroup(outside)]
        spare = self.settings.optimizer == "adamw"
        if self.extra is not None:
            groups += self.extra.parameter_groups()
        for group in groups:
            decayed = [p for p in group.parameters if group.decay and (p.ndim > 1 or not spare)]
            undecayed = [p for p in group.parameters if not group.decay or (p.ndim <= 1 and spare)]
            for parameters, decay in ((decayed, self.settings.weight_decay), (undecayed, 0.0)):
                if parameters:
                    yield {"params": parameters, "lr": self.settings.lr * group.lr, "weight_decay": decay}

    def _schedule(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if self.settings.schedule == "onecycle":
            # Lightning steps a schedule once more after the last batch of a resumed run, hence one step to spare.
            total = self.settings.epochs * self.steps_per_epoch + 1
            rates = [group["lr"] for group in optimizer.param_groups]
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=total, pct_start=0.3)
            return {"scheduler": cycle, "interval": "step"}
        epochs = self.settings.epochs

        def poly(epoch: int) -> float:
            return (1 - min(epoch, epochs) / epochs) ** POLY_POWER

        return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, poly), "interval": "epoch"}


def _lay_out_alike(optimizer: torch.optim.Optimizer) -> None:
    """Bring loaded moments into the order in memory of their weights, which is not that of every process that writes.

    Fused optimisers go through both in the order in which they lie.
    """
    for weight, kept in optimizer.state.items():
        for name, moment in kept.items():
            if isinstance(moment, torch.Tensor) and moment.shape == weight.shape:
                kept[name] = torch.empty_like(weight).copy_(moment)
