"""What a batch owes: the losses of its labelled pairs, scaled so that every image counts alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from diffusionmtl.tasks import Task
from diffusionmtl.transfer import sent
from diffusionmtl.types import Batch, NetworkOutput

PUBLISHED_INITIAL_WEIGHT = 0.5


@dataclass(frozen=True)
class Objective:
    """The loss of one batch and what it is made of.

    Attributes:
        total: what is minimised.
        final: per task and labelled pair, the unweighted loss of the final prediction.
        initial: likewise of the initial prediction; empty for a network without refinement.
        extra: terms of `total` that are no losses of labelled pairs.
    """

    total: Float[Tensor, ""]
    final: Mapping[str, Float[Tensor, "n"]]
    initial: Mapping[str, Float[Tensor, "n"]]
    extra: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)

    def means(self) -> dict[str, Tensor]:
        """For the log: mean loss per task over its labelled pairs, without tasks that have none; then extra terms."""
        parts = {"final": self.final, "initial": self.initial}
        means = {
            f"{part}/{task}": losses.detach().mean()
            for part, by_task in parts.items()
            for task, losses in by_task.items()
            if len(losses)
        }
        return means | {f"extra/{name}": term.detach() for name, term in self.extra.items()}

    def plus(self, terms: Mapping[str, Float[Tensor, ""]]) -> "Objective":
        """With more terms in the total."""
        total = torch.stack([self.total, *terms.values()]).sum()
        return replace(self, total=total, extra={**self.extra, **terms})


def objective(
    tasks: Sequence[Task], output: NetworkOutput, batch: Batch, initial_weight: float = PUBLISHED_INITIAL_WEIGHT
) -> Objective:
    """The training objective of DiffusionMTL.

    With B images, K tasks and the labelled tasks T_n of image n (reference: published loss scheme):

        L = sum_n K / |T_n| * sum_{t in T_n} w_t / B * (l_t(final) + initial_weight * l_t(initial))

    Every l_t is averaged over that image's own valid pixels. A batch without any label gives 0, connected to the graph.
    Where labels count less than 1, see `shares`.
    """
    share = shares(tasks, batch)
    final: dict[str, Tensor] = {}
    initial: dict[str, Tensor] = {}
    terms: list[Tensor] = []
    for task in tasks:
        if task.name not in output.final:
            continue
        labels = batch.labels[task.name]

        def loss(raw: Tensor, task: Task = task) -> Tensor:
            full = output.canvas.to_image(raw)
            return task.loss(full, batch.labels[task.name].value, batch.labels[task.name].valid)

        final[task.name] = loss(output.final[task.name])
        owed = share[labels.rows] if labels.weight is None else share[labels.rows] * labels.weight
        weight = _like(task.weight * owed, final[task.name])
        terms.append((weight * final[task.name]).sum())
        if task.name in output.initial:
            initial[task.name] = loss(output.initial[task.name])
            terms.append((initial_weight * weight * initial[task.name]).sum())
    total = torch.stack(terms).sum() if terms else torch.zeros((), device=batch.image.device, requires_grad=True)
    return Objective(total=total, final=final, initial=initial)


def shares(tasks: Sequence[Task], batch: Batch) -> Float64[Tensor, "b"]:
    """What a label of weight 1 of each image counts, before the weight of its task.

    Without weights K / (|T_n| B). With weights a of the labels, at most 1 each,

        K / B * max_{t in T_n} a_nt / sum_{t in T_n} a_nt

    so that labels share their image in proportion to their weights, and the image counts as its weightiest label: every
    image with a label of weight 1 like any other, an image with nothing but predicted labels as little as these.
    """
    if all(labels.weight is None for labels in batch.labels.values()):
        return len(tasks) / (batch.pairs_per_image.clamp(min=1).double() * len(batch.image))
    together = torch.zeros(len(batch.image), dtype=torch.float64)
    largest = torch.zeros_like(together)
    for labels in batch.labels.values():
        weight = torch.ones(len(labels.rows), dtype=torch.float64) if labels.weight is None else labels.weight
        together.index_add_(0, labels.rows, weight)
        largest.scatter_reduce_(0, labels.rows, weight, "amax")
    # Weights of 0 everywhere are no labels: 0 / 1.
    return len(tasks) * largest / (torch.where(together > 0, together, 1.0) * len(batch.image))


def _like(weight: Float[Tensor, "n"], losses: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """On the device of the losses, as exact as they are but never coarser than float32."""
    return sent(weight.to(torch.promote_types(losses.dtype, torch.float32)), losses.device)
