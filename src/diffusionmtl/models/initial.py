"""The initial network: backbone, fusion and one small decoder and head per task."""

import math
from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from diffusionmtl.models import recompute
from diffusionmtl.models.backbone import Backbone
from diffusionmtl.models.blocks import Fusion, PointwiseFusion, ResidualBlock
from diffusionmtl.types import Canvas, InitialOutput


class InitialNetwork(nn.Module):
    """Initial features and predictions of every task on one coarse grid.

    The first blocks of the decoders may be shared: a trunk that runs once per image, whatever the number of tasks.

    Attributes:
        grid_stride: pixels per cell of that grid.
        multiple: sides of the padded picture are multiples of this.
        recompute: keep few maps of backbone and decoders for the backward pass, compute them again; "light": those of
            the backbone, and what costs next to nothing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        channels: Mapping[str, int],
        width: int,
        decoder_blocks: int = 2,
        grid_stride: int = 8,
        multiple: int = 32,
        *,
        trunk_blocks: int = 0,
        separable: bool = False,
        pointwise_fusion: bool = False,
    ) -> None:
        super().__init__()
        self.recompute: recompute.Again = False
        self.all_decoders_learn = False
        self.grid_stride = grid_stride
        self.multiple = math.lcm(multiple, *backbone.strides)
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(backbone.std)[:, None, None])
        self.backbone = backbone
        if pointwise_fusion:
            self.fusion = PointwiseFusion(backbone.channels, backbone.strides, width, grid_stride)
        else:
            self.fusion = Fusion(backbone.channels, width)

        def blocks(count: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, separable) for _ in range(count)))

        self.trunk = blocks(trunk_blocks)
        self.decoders = nn.ModuleDict({task: blocks(decoder_blocks - trunk_blocks) for task in channels})
        self.heads = nn.ModuleDict({task: nn.Conv2d(width, count, 1) for task, count in channels.items()})

    def forward(
        self,
        image: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"],
        taught: Collection[str] | None = None,
    ) -> InitialOutput:
        """Everything about every task.

        Args:
            image: RGB, uint8 in [0, 255] or float in [0, 1], of any size.
            taught: the tasks that are learnt from this batch; all if None. The others are computed all the same, since
                all contribute to the condition, but no gradient will reach them.
        """
        picture, canvas = self.prepare(image)
        fused = self.fuse(picture)
        common = self._through(self.trunk, fused)
        features, predictions = {}, {}
        for task in self.decoders:
            learns = taught is None or self.all_decoders_learn or task in taught
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                features[task] = self._through(self.decoders[task], common)
                predictions[task] = self.heads[task](features[task])
        return InitialOutput(features, predictions, canvas, shared=fused)

    def _through(self, blocks: nn.Module, x: Tensor) -> Tensor:
        if not self.recompute:
            return blocks(x)
        for block in blocks.children():
            x = recompute.run(block, x, again=self.recompute)
        return x

    def prepare(
        self, image: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]
    ) -> tuple[Float[Tensor, "b 3 Hp Wp"], Canvas]:
        """Normalise, then pad at the right and bottom with the mean colour to what the strides need."""
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        picture = (image - self.mean) / self.std
        height, width = image.shape[-2:]
        padded = (_up_to(height, self.multiple), _up_to(width, self.multiple))
        picture = F.pad(picture, (0, padded[1] - width, 0, padded[0] - height))
        return picture, Canvas(size=(height, width), padded=padded)

    def fuse(self, picture: Float[Tensor, "b 3 Hp Wp"]) -> Float[Tensor, "b d h w"]:
        """A normalised, padded picture to the fused feature."""
        grid = (picture.shape[-2] // self.grid_stride, picture.shape[-1] // self.grid_stride)
        # It has the largest maps for the least arithmetic, so it runs again as a whole if anything does.
        pyramid = recompute.run(self.backbone, picture, again=bool(self.recompute))
        return recompute.run(self.fusion, pyramid, grid, again=self.recompute)


def _up_to(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
