"""Where the noise comes from: drawn per (seed, image, task, step), so that no prediction depends on its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusionmtl.seeds import derive_seed


@runtime_checkable
class NoiseSource(Protocol):
    """Gives the noise of one task and step for some rows of a batch."""

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Noise of the shape of `like`; `rows` are on the CPU, and `step` S is the draw that starts the diffusion."""
        ...


@dataclass(frozen=True)
class SeededNoise:
    """Standard normal noise from a generator per (seed, image key, task, step).

    Attributes:
        seed: of the draw; another seed is another sample.
        keys: one per image of the batch: its index in the data set, or whatever tells it apart.
    """

    seed: int
    keys: Sequence[int]

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Drawn on the CPU in float32 whatever the device, so that devices agree."""
        noise = torch.empty(like.shape, dtype=torch.float32)
        for drawn, row in zip(noise, rows.tolist(), strict=True):
            drawn.normal_(generator=torch.Generator().manual_seed(derive_seed(self.seed, self.keys[row], task, step)))
        return noise.to(device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class ScaledNoise:
    """Noise of another strength than training knew: every draw times a factor.

    Attributes:
        source: of the draws.
        scale: the factor; 1 changes nothing.
    """

    source: NoiseSource
    scale: float

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Those of the source, scaled."""
        noise = self.source(task, step, rows, like)
        return noise if self.scale == 1 else noise * self.scale


@dataclass(frozen=True)
class NoNoise:
    """Zeros: the mean of the process, for a prediction without chance."""

    def __call__(
        self, task: str, step: int, rows: Int[Tensor, "n"], like: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Zeros."""
        return torch.zeros_like(like)
