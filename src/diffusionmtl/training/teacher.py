"""Self-training: what no annotation says, a slowly moving copy of the network teaches."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusionmtl.data.partition import Partition
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task
from diffusionmtl.training.disturb import disturbed
from diffusionmtl.training.extra import Extra, ParameterGroup, Seen
from diffusionmtl.training.sharding import local
from diffusionmtl.training.together import place
from diffusionmtl.transfer import sent
from diffusionmtl.types import Batch

DECAY = 0.99
BEGINS, FULL = 0.1, 0.4
"""Shares of the run: before the first the teacher knows nothing, from the second on it counts fully."""


class SelfTraining(Extra):
    """A mean teacher (Tarvainen and Valpola 2017) for the unlabelled pairs; not part of the published method.

    The teacher's weights are a moving average of the network's. It sees the pictures as they were loaded, the network
    sees them disturbed. With the unlabelled tasks U_n of image n, the objective gains

        weight * ramp / B * sum_n K / |U_n| * sum_{t in U_n} w_t * (d_t(final) + initial_weight * d_t(initial))

    where d_t is the kind's `agreement` with the teacher's final prediction, on the grid of prediction: the form of the
    supervised objective. The teacher never predicts for the user: its weights stay in checkpoints.

    Attributes:
        teacher: gets no gradient. It normalises by the statistics of its batch as the network does; with running ones
            it would answer a little beside what the network says, the network would follow, and both would drift.
    """

    moves: Tensor

    def __init__(
        self, network: Network, tasks: Sequence[Task], weight: float, initial_weight: float, total_steps: int
    ) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.tasks = tuple(tasks)
        self.weight = weight
        self.initial_weight = initial_weight
        self.total_steps = total_steps
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))

    def judges(self, step: int) -> bool:
        """Once the teacher has learnt a little."""
        return self._ramp(step) > 0

    def _ramp(self, step: int) -> float:
        return min(1.0, max(0.0, (step / self.total_steps - BEGINS) / (FULL - BEGINS)))

    def shown(self, batch: Batch, seed: int) -> Batch:
        """The pictures disturbed."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "disturb"))
        return replace(batch, image=disturbed(batch.image, generator, *place()))

    def terms(self, network: Network, seen: Seen) -> Mapping[str, Float[Tensor, ""]]:
        """One per task."""
        weight = self.weight * self._ramp(seen.step)
        unlabelled = _unlabelled(self.tasks, seen.batch)
        share = weight * len(self.tasks) / (unlabelled.sum(dim=1).clamp(min=1) * len(seen.batch.image))
        with torch.no_grad():
            taught = self.teacher(seen.batch.image, SeededNoise(derive_seed(seen.seed, "teacher"), seen.batch.indices))
        terms = {}
        for column, task in enumerate(self.tasks):
            estimate = task.activate(taught.final[task.name])
            apart = task.agreement(seen.output.final[task.name], estimate)
            if task.name in seen.output.initial:
                apart = apart + self.initial_weight * task.agreement(seen.output.initial[task.name], estimate)
            terms[task.name] = (task.weight * share * unlabelled[:, column] * apart).sum()
        return terms

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Nothing of its own is trained by gradients."""
        return []

    @torch.no_grad()
    def after_step(self, network: Network) -> None:
        """The teacher moves towards the network; fast at first, when the network itself does."""
        self.moves += 1
        moves = self.moves.float()
        stay = torch.clamp((1 + moves) / (10 + moves), max=DECAY)
        for mine, theirs in zip(self.teacher.parameters(), network.parameters(), strict=True):
            local(mine).lerp_(local(theirs), (1 - stay).to(mine.dtype))


def self_training(
    network: Network,
    tasks: Sequence[Task],
    partition: Partition,
    *,
    weight: float,
    initial_weight: float,
    total_steps: int,
) -> SelfTraining | None:
    """None where every image that is learnt from shows every task: there is nothing to teach."""
    everything = {task.name for task in tasks}
    if all(shown >= everything for shown in partition.visible.values() if shown):
        return None
    return SelfTraining(network, tasks, weight, initial_weight, total_steps)


def _unlabelled(tasks: Sequence[Task], batch: Batch) -> Bool[Tensor, "b k"]:
    absent = torch.ones(len(batch.image), len(tasks), dtype=torch.bool)
    for column, task in enumerate(tasks):
        absent[batch.labels[task.name].rows, column] = False
    return sent(absent, batch.image.device)
