"""Arithmetic on maps [... c h w] that costs a processor much more if it is written the obvious way."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

_SHORTEST = 1e-12


def resize(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    """Bilinear, pixel centres aligned, no antialias; nothing is copied when the size is right already."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    y = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return _AsLaid.apply(y) if y.requires_grad and in_channels_last(y) else y


def in_channels_last(x: Tensor) -> bool:
    """Whether the channels of a cell lie side by side, and those of one channel do not."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def length(x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch h w"]:
    """Of the vector at each position. Not for losses: its slope at 0 is infinite.

    `vector_norm` over channels that lie apart takes a hundred times as long.
    """
    return (x * x).sum(dim=-3).sqrt()


def unit(x: Float[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
    """The vector at each position, of length 1: what `F.normalize` says, gradients at 0 included."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    # Clamped before the root, whose slope at 0 is infinite.
    lengths = (wide * wide).sum(dim=-3, keepdim=True).clamp_min(_SHORTEST**2).sqrt()
    return x / lengths.to(x.dtype)


class _AsLaid(torch.autograd.Function):
    """Nothing; but the gradient comes back with its channels side by side, as the map has them.

    The gradient of a bilinear resize takes four to fifteen times as long from any other layout.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)
