"""A network as one graph that a program without this package can run: image and noise in, answers out."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from diffusionmtl.models.network import Network

IMAGE, NOISE, INITIAL = "image", "noise", "initial_"


@dataclass(frozen=True)
class NoiseInput:
    """What noise a graph is to be given: standard normal [steps B channels h w], and h, w follow from the picture.

    Attributes:
        steps: draws per answer, S: the one that starts the diffusion, then those of steps S - 1 down to 1.
        tasks: names, in the order of their channels.
        widths: channels of each.
        multiple: sides of the picture are padded up to multiples of this.
        stride: pixels per cell: h is the padded height divided by it.
    """

    steps: int
    tasks: tuple[str, ...]
    widths: tuple[int, ...]
    multiple: int
    stride: int

    @classmethod
    def of(cls, network: Network) -> "NoiseInput | None":
        """None for a network that draws none."""
        refiner = network.refiner
        if refiner is None or not refiner.noisy:
            return None
        channels = refiner.denoiser.signal_channels
        initial = network.initial
        return cls(
            refiner.schedule.steps, tuple(channels), tuple(channels.values()), initial.multiple, initial.grid_stride
        )

    def shape(self, images: int, size: tuple[int, int]) -> tuple[int, int, int, int, int]:
        """For so many images of H, W pixels."""
        height, width = (-(-side // self.multiple) * self.multiple // self.stride for side in size)
        return (self.steps, images, sum(self.widths), height, width)

    def source(self, noise: Float[Tensor, "s b c h w"]) -> "GivenNoise":
        """The same numbers, for a network to draw."""
        starts = [0, *accumulate(self.widths)]
        return GivenNoise(noise, self, dict(zip(self.tasks, starts, strict=False)))


@dataclass(frozen=True)
class GivenNoise:
    """Noise that somebody else drew."""

    noise: Float[Tensor, "s b c h w"]
    told: NoiseInput
    starts: dict[str, int]

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """For all images of the batch: `rows` are not looked at."""
        start = self.starts[task]
        width = self.told.widths[self.told.tasks.index(task)]
        return self.noise[self.told.steps - step][:, start : start + width]


class AnswerGraph(nn.Module):
    """Pictures and noise to activated estimates [B a H W] of every task, and those before refinement if wanted."""

    def __init__(self, network: Network, initial: bool = False) -> None:
        super().__init__()
        self.network = network
        self.told = NoiseInput.of(network)
        self.initial = initial and network.refiner is not None

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives."""
        names = [task.name for task in self.network.tasks]
        return names + [INITIAL + name for name in names] if self.initial else names

    def forward(self, image: UInt8[Tensor, "b 3 h w"], noise: Tensor | None = None) -> tuple[Tensor, ...]:
        """One map per name of `outputs`."""
        size = (image.shape[-2], image.shape[-1])
        initial = self.network.initial(self._padded(image))
        refined = initial.predictions
        if self.network.refiner is not None:
            source = _nothing if self.told is None or noise is None else self.told.source(noise)
            refined = self.network.refiner(initial, None, source)
        raw = [refined, initial.predictions] if self.initial else [refined]
        return tuple(
            task.activate(initial.canvas.to_image(of[task.name])[..., : size[0], : size[1]])
            for of in raw
            for task in self.network.tasks
        )

    def _padded(self, image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        """In [0, 1], with the mean colour at the right and bottom, which is what the network would pad with.

        By index, without asking whether there is anything to pad: a graph has no branches.
        """
        initial = self.network.initial
        picture, inside = image.to(initial.mean.dtype) / 255, None
        for axis in (-2, -1):
            side = image.shape[axis]
            # Never a negative number: ONNX rounds quotients towards zero.
            cells = (side + initial.multiple - 1) // initial.multiple
            at = torch.arange(cells * initial.multiple, device=image.device)
            picture = picture.index_select(axis, at.clamp(max=side - 1))
            here = at < side if axis == -1 else (at < side)[:, None]
            inside = here if inside is None else inside & here
        return torch.where(inside, picture, initial.mean) if inside is not None else picture

    def example(self, images: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs: an image, and noise if the graph takes any."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.randint(0, 256, (images, 3, *size), dtype=torch.uint8, generator=generator)
        if self.told is None:
            return (image,)
        return (image, torch.randn(self.told.shape(images, size), generator=generator))


def _nothing(task: str, step: int, rows: Tensor, like: Tensor) -> Tensor:
    raise AssertionError("a network that draws no noise has drawn noise")
