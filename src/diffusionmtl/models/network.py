"""The networks that a user trains: images and asked pairs in, raw predictions out."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from diffusionmtl.diffusion import NoiseSource
from diffusionmtl.diffusion.samplers import Watch
from diffusionmtl.models.initial import InitialNetwork
from diffusionmtl.models.mtdnet import Refiner
from diffusionmtl.tasks import Task
from diffusionmtl.types import InitialOutput, NetworkOutput


class Network(nn.Module):
    """A network that predicts every task of its task set for every image.

    Without a refiner it is the multi-task baseline: the initial predictions are the answer. With one it is DiffusionMTL
    (arXiv 2403.15389): the initial predictions are a noisy signal that the refiner denoises.

    Attributes:
        tasks: the task set; its order is the order of the condition's channels.
    """

    def __init__(self, tasks: Sequence[Task], initial: InitialNetwork, refiner: Refiner | None = None) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.initial = initial
        self.refiner = refiner

    def forward(
        self,
        image: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"],
        noise: NoiseSource,
        rows: Mapping[str, Int[Tensor, "n"]] | None = None,
        watch: Watch | None = None,
    ) -> NetworkOutput:
        """Raw predictions on the coarse grid.

        Args:
            image: RGB, uint8 in [0, 255] or float in [0, 1]; any size.
            noise: source of every draw.
            rows: per task, the images to predict it for; every task for every image if None. In training these are the
                labelled pairs. A task that is not a key is not denoised and its own parameters get no gradient.
            watch: sees every denoising step.
        """
        return self.finish(self.initial(image), noise, rows, watch)

    def finish(
        self,
        initial: InitialOutput,
        noise: NoiseSource,
        rows: Mapping[str, Int[Tensor, "n"]] | None = None,
        watch: Watch | None = None,
    ) -> NetworkOutput:
        """What `forward` does once the initial network has run: several draws of noise need that only once."""
        if rows is None:
            some = next(iter(initial.predictions.values()))
            rows = {task.name: torch.arange(len(some), device=some.device) for task in self.tasks}
        asked = {task: initial.predictions[task][at] for task, at in rows.items()}
        if self.refiner is None:
            return NetworkOutput(asked, {}, rows, initial.canvas, initial.shared)
        final = self.refiner(initial, rows, noise, watch)
        return NetworkOutput(final, asked, rows, initial.canvas, initial.shared)
