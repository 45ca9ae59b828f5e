"""What a training method asks of a network beyond the labels of its images: terms that join the objective."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.network import Network
from diffusionmtl.transfer import picked
from diffusionmtl.types import Batch, NetworkOutput


@dataclass(frozen=True)
class Seen:
    """What an `Extra` judges.

    Attributes:
        batch: what was loaded for this step, undisturbed.
        view: the images that are judged, with their labels: those that the Extra asked for, or the batch itself.
        output: of the network for every task and every image of `view`.
        seed: of this step, whatever came before it.
        step: optimiser steps done.
    """

    batch: Batch
    view: Batch
    output: NetworkOutput
    seed: int
    step: int


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that training changes beside those of the network.

    Attributes:
        lr: factor on the learning rate.
        decay: whether weight decay may apply.
    """

    parameters: Sequence[nn.Parameter]
    lr: float = 1.0
    decay: bool = True


class Extra(nn.Module, ABC):
    """Further terms of the objective. What it owns is trained and kept in checkpoints, never in the weights of a run.

    One step: `shown` may disturb the pictures; `images` says what else the network has to look at; the network sees
    both in one forward; `terms` judges what came out; the optimiser moves the weights; `after_step`. Everything random
    follows from the seed that is handed in, so that a resumed run repeats it.
    """

    def judges(self, step: int) -> bool:
        """Whether there are terms in this step; if not, the network predicts no more than the labels need."""
        return True

    def shown(self, batch: Batch, seed: int) -> Batch:
        """What the network sees in place of the batch: other pictures, the same labels."""
        return batch

    def images(self, batch: Batch, seed: int) -> Batch | None:
        """Images to append to the batch, as large and on the same device, with labels for `terms`.

        None: the batch itself is to be judged, and the network predicts every task for it instead of the labelled ones.
        """
        return None

    @abstractmethod
    def terms(self, network: Network, seen: Seen) -> Mapping[str, Float[Tensor, ""]]:
        """Terms by name, weighted, to be added to the objective."""

    def synchronise(self) -> None:
        """Where it normalises by its batch, do so by those of all processes from now on, as the network does."""

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """What is trained; everything that wants a gradient by default."""
        return [ParameterGroup([p for p in self.parameters() if p.requires_grad])]

    def after_step(self, network: Network) -> None:
        """The weights have moved: whoever follows them does it now."""


def forward(network: Network, batch: Batch, view: Batch | None, seed: int) -> tuple[NetworkOutput, NetworkOutput]:
    """One forward over a batch and the images appended to it.

    Returns:
        what the labels are held against: the labelled pairs of the batch; and what an `Extra` judges: every task for
        every image of the view, or of the batch if there is none.
    """
    rows = {task: labels.rows for task, labels in batch.labels.items()}
    if view is None:
        everything = network(batch.image, SeededNoise(seed, batch.indices))
        return _picked(everything, rows, rows), everything
    count, more = len(batch.image), len(view.image)
    appended = torch.arange(count, count + more)
    # The same image in another view gets noise of its own.
    noise = SeededNoise(seed, (*batch.indices, *(-1 - index for index in view.indices)))
    asked = {task: torch.cat([at, appended]) for task, at in rows.items()}
    both = network(torch.cat([batch.image, view.image]), noise, asked)
    first = {task: torch.arange(len(at)) for task, at in rows.items()}
    last = {task: torch.arange(len(at), len(at) + more) for task, at in rows.items()}
    labelled = _picked(both, first, rows, slice(None, count))
    return labelled, _picked(both, last, {task: appended - count for task in rows}, slice(count, None))


def _picked(
    output: NetworkOutput,
    at: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    images: slice = slice(None),
) -> NetworkOutput:
    """The rows `at` of an output, which are `rows` of `images`."""
    return replace(
        output,
        final={task: picked(raw, at[task]) for task, raw in output.final.items()},
        initial={task: picked(raw, at[task]) for task, raw in output.initial.items()},
        rows=dict(rows),
        shared=None if output.shared is None else output.shared[images],
    )
