"""Wide 3x3 convolutions with a fourth of the multiplications, on processors.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, CVPR 2016, section 4.3): a tile of 6x6 cells and the 3x3
filter are each brought to 36 numbers, their products summed over channels are 36 numbers too, and these are brought
back to 4x4 cells of the answer. That takes 36 multiplications per pair of channels instead of 144. The sums are other
sums, so answers are off by about 1e-5 of the largest; the filters take four times their memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, TILE = 4, 6
# Narrower ones spend more on bringing tiles to and fro than they save.
LEAST_WIDTH = 256
LEAST_CELLS = 144
# So many tiles at a time stay in the cache between one product and the next.
TILES_AT_ONCE = 256

_INTO = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_FILTER = (
    torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64)
    / torch.tensor([[24, 24, 24, 24, 24, 24]], dtype=torch.float64).T
)
_OUT_OF = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)


def use_winograd(network: nn.Module) -> int:
    """Replace every wide 3x3 convolution in place; returns how many there were."""
    replaced = 0
    for parent in [*network.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.Conv2d) and pays(child):
                setattr(parent, name, WinogradConv(child))
                replaced += 1
    return replaced


def pays(layer: nn.Conv2d) -> bool:
    """Whether a convolution is of the kind, and wide enough to gain by it."""
    plain = type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and layer.groups == 1
    usual = (layer.kernel_size, layer.stride, layer.dilation) == ((3, 3), (1, 1), (1, 1)) and layer.padding == (1, 1)
    return plain and usual and min(layer.in_channels, layer.out_channels) >= LEAST_WIDTH


class WinogradConv(nn.Conv2d):
    """A 3x3 convolution with stride 1 and padding 1, equal to the one it is made from within rounding.

    It shares the weights of that one, which small maps go through as before; for answering only.
    """

    into: Tensor
    out_of: Tensor
    filters: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer.in_channels, layer.out_channels, 3, padding=1, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
        both = torch.einsum("ai,bj,ocij->abco", _FILTER, _FILTER, layer.weight.detach().double().cpu())
        self.register_buffer("filters", both.reshape(TILE**2, layer.in_channels, layer.out_channels).to(**like))
        self.register_buffer("into", torch.kron(_INTO, _INTO).to(**like))
        self.register_buffer("out_of", torch.kron(_OUT_OF, _OUT_OF).to(**like))

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        height, width = input.shape[-2:]
        if height * width < LEAST_CELLS:
            return super()._conv_forward(input, weight, bias)
        down, across = -(-height // SIDE), -(-width // SIDE)
        padded = F.pad(input, (1, SIDE * across + 1 - width, 1, SIDE * down + 1 - height))
        padded = padded.contiguous(memory_format=torch.channels_last)
        out = input.new_empty(len(input), SIDE * down, SIDE * across, self.out_channels)
        rows = max(1, TILES_AT_ONCE // across)
        for image, answer in zip(padded, out, strict=True):
            for top in range(0, down, rows):
                band = slice(SIDE * top, SIDE * min(top + rows, down))
                self._band(image[:, band.start : band.stop + TILE - SIDE], bias, answer[band])
        return out.permute(0, 3, 1, 2)[:, :, :height, :width]

    def _band(self, image: Float[Tensor, "c r s"], bias: Tensor | None, out: Float[Tensor, "h w o"]) -> None:
        """Some rows of tiles of one image: what they give is written to `out`."""
        across = out.shape[1] // SIDE
        # [6 6 rows across c]: cells of tiles that overlap by two
        tiles = image.unfold(1, TILE, SIDE).unfold(2, TILE, SIDE).permute(3, 4, 1, 2, 0)
        brought = (self.into @ tiles.reshape(TILE**2, -1)).view(TILE**2, -1, self.in_channels)
        answered = self.out_of @ torch.bmm(brought, self.filters).view(TILE**2, -1)
        cells = answered.view(SIDE, SIDE, -1, across, self.out_channels).permute(2, 0, 3, 1, 4)
        where = out.view(-1, SIDE, across, SIDE, self.out_channels)
        if bias is None:
            where.copy_(cells)
        else:
            torch.add(cells, bias, out=where)
