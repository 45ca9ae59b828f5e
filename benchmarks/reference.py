"""The same method walked one pair at a time, to measure against: plain, slow and easy to check.

The published code denoises in a loop over images and, inside it, over the labelled tasks of each: one call of the
denoiser, with a batch of one, per labelled pair; and every image pays its losses by itself. This walk does that on the
modules, weights and noise of an ordinary network, so that only the order of the work differs. It is kinder than
the published code in what is no part of the method: no map is resized to its own size and no noise is drawn unused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusionmtl.diffusion import NoiseSource, ddpm, q_sample
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Task
from diffusionmtl.types import Batch, InitialOutput


@dataclass(frozen=True)
class Prepared:
    """What the whole batch goes through at once in both walks: initial network, signals and condition."""

    network: Network
    initial: InitialOutput
    signals: Mapping[str, Tensor]
    condition: Tensor

    @classmethod
    def of(cls, network: Network, image: Tensor) -> "Prepared":
        refiner = network.refiner
        assert refiner is not None
        initial = network.initial(image)
        condition = refiner.denoiser.condition_tokens(refiner.condition(initial))
        return cls(network, initial, refiner.signal.start(initial), condition)

    def refined(self, row: int, task: str, noise: NoiseSource) -> Tensor:
        """Noise the signal of one pair to the last step and denoise it: raw prediction [1 C_t h w]."""
        refiner = self.network.refiner
        assert refiner is not None
        clean, condition = self.signals[task][row : row + 1], self.condition[row : row + 1]

        def draw(name: str, step: int, like: Tensor) -> Tensor:
            return noise(name, step, torch.tensor([row]), like)

        def estimate(signals: Mapping[str, Tensor], step: int) -> Mapping[str, Tensor]:
            return refiner.denoiser(signals, condition, step)

        schedule = refiner.schedule
        noisy = q_sample(schedule, clean, schedule.steps - 1, draw(task, schedule.steps, clean))
        return refiner.signal.read(task, ddpm(schedule, {task: noisy}, estimate, draw)[task])


def training_loss(
    network: Network, tasks: Sequence[Task], batch: Batch, noise: NoiseSource, initial_weight: float = 0.5
) -> Tensor:
    """The objective of a batch: what `training.objective` gives for the network's output, pair by pair."""
    prepared = Prepared.of(network, batch.image)
    canvas = prepared.initial.canvas
    # The published network hands out every initial prediction at the size of the image, asked for or not.
    enlarged = {task: canvas.to_image(raw) for task, raw in prepared.initial.predictions.items()}
    rows = {task.name: batch.labels[task.name].rows.tolist() for task in tasks}
    terms = []
    for row in range(len(batch.names)):
        labelled = [task for task in tasks if row in rows[task.name]]
        for task in labelled:
            at = rows[task.name].index(row)
            given = batch.labels[task.name]
            label, valid = given.value[at : at + 1], given.valid[at : at + 1]
            after = task.loss(canvas.to_image(prepared.refined(row, task.name, noise)), label, valid)
            before = task.loss(enlarged[task.name][row : row + 1], label, valid)
            share = task.weight * len(tasks) / (len(labelled) * len(batch.names))
            terms.append(share * (after + initial_weight * before).sum())
    return torch.stack(terms).sum()


def predict(network: Network, image: Tensor, noise: NoiseSource) -> Mapping[str, Tensor]:
    """Raw predictions [B C_t h w] of every task for every image, one denoiser call per pair and step."""
    prepared = Prepared.of(network, image)
    pairs = {
        task.name: [prepared.refined(row, task.name, noise) for row in range(len(image))] for task in network.tasks
    }
    return {task: torch.cat(found) for task, found in pairs.items()}
