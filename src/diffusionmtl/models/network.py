"""The networks that a user trains: images and asked pairs in, raw predictions out."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from diffusionmtl.diffusion import NoiseSource
from diffusionmtl.diffusion.samplers import Watch
from diffusionmtl.models.initial import InitialNetwork
from diffusionmtl.models.mtdnet import Refiner
from diffusionmtl.models.recompute import Again
from diffusionmtl.models.untaught import parameters_of, teaching_nothing
from diffusionmtl.tasks import Task
from diffusionmtl.transfer import picked
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
        self.in_step = False

    def keep_in_step(self) -> None:
        """From now on every batch goes through the same parts in the same order, whatever labels it has.

        A task without any label is denoised for one image all the same, and its answer left out. Processes that
        gather their weights part by part have to come to each of them together.
        """
        self.in_step = True
        self.initial.all_decoders_learn = True

    def recompute(self, again: Again) -> None:
        """Whether training computes maps again instead of keeping them: less memory, a quarter more arithmetic.

        "light" computes again what costs next to nothing, for a smaller gain.
        """
        self.initial.recompute = again
        if self.refiner is not None:
            self.refiner.denoiser.recompute = again

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
            rows: per task, the images to predict it for, on the CPU; every task for every image if None. In training
                these are the labelled pairs. A task that is not a key is not denoised and its own parameters get no
                gradient; one with no image gives an empty prediction and its parameters a gradient of zero.
            watch: sees every denoising step.
        """
        taught = None if rows is None else [task for task, at in rows.items() if len(at)]
        return self.finish(self.initial(image, taught), noise, rows, watch)

    def finish(
        self,
        initial: InitialOutput,
        noise: NoiseSource,
        rows: Mapping[str, Int[Tensor, "n"]] | None = None,
        watch: Watch | None = None,
    ) -> NetworkOutput:
        """What `forward` does once the initial network has run: several draws of noise need that only once."""
        if rows is None:
            asked = dict(initial.predictions)
            final = asked if self.refiner is None else self.refiner(initial, None, noise, watch)
            rows = {task: torch.arange(raw.shape[0], device="cpu") for task, raw in asked.items()}
        else:
            asked = {task: picked(initial.predictions[task], at) for task, at in rows.items()}
            some = {task: at if len(at) else at.new_zeros(1) for task, at in rows.items() if len(at) or self.in_step}
            refined = {} if self.refiner is None else self.refiner(initial, some, noise, watch)
            refined = {task: x if len(rows[task]) else x[:0] for task, x in refined.items()}
            empty = {task: self._empty(task, asked[task], not some) for task in rows if task not in some}
            final = {task: empty[task] if task in empty else refined.get(task, asked[task]) for task in rows}
        before = {} if self.refiner is None else asked
        return NetworkOutput(final, before, rows, initial.canvas, initial.shared)

    def _empty(self, task: str, asked: Tensor, alone: bool) -> Tensor:
        """The final prediction of a task for no image; `alone`: nothing else teaches what the tasks share either."""
        return teaching_nothing(asked, self.parameters() if alone else parameters_of(self, task))
