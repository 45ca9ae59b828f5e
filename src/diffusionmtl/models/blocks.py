"""Building blocks that know nothing of tasks."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffusionmtl.maps import resize
from diffusionmtl.transfer import sent

GROUPS = 8


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 that mixes them (Howard et al. 2017), nothing between.

    About a ninth of the multiply-adds of the 3x3 convolution that it stands for.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=bias)
        # What comes out of both is then as large at the start as what comes out of one dense convolution.
        nn.init.kaiming_normal_(self.depthwise.weight, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Zeros outside the border."""
        return self.pointwise(self.depthwise(x))


def conv3x3(inputs: int, outputs: int, separable: bool = False, bias: bool = True) -> nn.Conv2d | SeparableConv:
    """A 3x3 convolution that keeps the size: dense, or separable."""
    if separable:
        return SeparableConv(inputs, outputs, bias)
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut (He et al. 2016), width unchanged."""

    def __init__(self, width: int, separable: bool = False) -> None:
        super().__init__()
        self.conv1 = conv3x3(width, width, separable, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, separable, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Non-negative: a ReLU comes last."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class Fusion(nn.Module):
    """Brings the feature maps of a pyramid to one grid and mixes them with a 3x3 convolution."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(sum(channels), width, 3, padding=1)

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
        """`pyramid`: maps [B c_i h_i w_i]; `size`: the grid to bring them to."""
        return self.conv(torch.cat([resize(x, size) for x in pyramid], dim=1))


class PointwiseFusion(nn.Module):
    """Sums a 1x1 projection of every feature map of a pyramid, on one grid.

    A 1x1 convolution and a bilinear resize may change places, so each map is projected where it has fewer cells.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, grid_stride: int) -> None:
        super().__init__()
        self.coarser = tuple(stride > grid_stride for stride in strides)
        # One bias does for the sum.
        self.projections = nn.ModuleList(
            nn.Conv2d(count, width, 1, bias=number == 0) for number, count in enumerate(channels)
        )

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
        """`pyramid`: maps [B c_i h_i w_i]; `size`: the grid to bring them to."""
        fused = None
        for x, project, coarser in zip(pyramid, self.projections, self.coarser, strict=True):
            y = resize(project(x), size) if coarser else project(resize(x, size))
            fused = y if fused is None else fused + y
        assert fused is not None
        return fused


class MLP(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width * ratio)
        self.fc2 = nn.Linear(width * ratio, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Position by position."""
        return self.fc2(F.gelu(self.fc1(x)))


class CrossAttention(nn.Module):
    """Multi-head attention of one token stream to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, query: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"]) -> Float[Tensor, "b n d"]:
        """What each query token gathers from the context."""
        b, n, d = query.shape
        q = self.q(query).view(b, n, self.heads, d // self.heads).transpose(1, 2)
        kv = self.kv(context).unflatten(-1, (2, self.heads, d // self.heads))
        k, v = kv.permute(2, 0, 3, 1, 4)  # (b, heads, m, d / heads) each
        gathered = F.scaled_dot_product_attention(q, k, v)
        return self.proj(gathered.transpose(1, 2).reshape(b, n, d))


class CrossBlock(nn.Module):
    """A query stream that attends to a context stream; both are carried on.

    The context is updated by its own MLP first, then the queries gather from it.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio)
        self.norm_kv = nn.LayerNorm(width)
        self.norm2_kv = nn.LayerNorm(width)
        self.mlp_kv = MLP(width, mlp_ratio)

    def forward(
        self, query: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Both streams, updated."""
        context = context + self.mlp_kv(self.norm2_kv(context))
        query = query + self.attn(self.norm1(query), self.norm_kv(context))
        return query + self.mlp(self.norm2(query)), context


class SelfBlock(nn.Module):
    """An ordinary pre-norm transformer block with the interface of `CrossBlock`: the context passes by unused."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio)

    def forward(
        self, query: Float[Tensor, "b n d"], context: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """The query stream attends to itself."""
        normed = self.norm1(query)
        query = query + self.attn(normed, normed)
        return query + self.mlp(self.norm2(query)), context


class TimeEmbedding(nn.Module):
    """Sinusoids of the step index through a small MLP (Dhariwal and Nichol 2021)."""

    def __init__(self, width: int, dimension: int = 256, max_period: float = 10_000.0) -> None:
        super().__init__()
        self.dimension = dimension
        self.max_period = max_period
        self.fc1 = nn.Linear(dimension, width)
        self.fc2 = nn.Linear(width, width)
        nn.init.normal_(self.fc1.weight, std=0.02)
        nn.init.normal_(self.fc2.weight, std=0.02)

    def forward(self, step: int) -> Float[Tensor, "d"]:
        """The embedding of an integer step."""
        waves = sinusoids(step, self.dimension, self.max_period)
        weight = self.fc1.weight
        return self.fc2(F.silu(self.fc1(sent(waves.to(weight.dtype), weight.device))))


def sinusoids(step: int, dimension: int, max_period: float) -> Float[Tensor, "d"]:
    """Cosines, then sines, of the step at frequencies from 1 down to almost 1 / max_period.

    In float64 on the CPU, whatever the network's precision and device: they are few, and some devices have no float64.
    """
    half = dimension // 2
    angles = step * torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float64, device="cpu") / half)
    return torch.cat([angles.cos(), angles.sin()])


class RefinementHead(nn.Sequential):
    """1x1, then three 3x3 convolutions each followed by a ReLU."""

    def __init__(self, width: int, hidden: int, separable: bool = False) -> None:
        super().__init__(
            nn.Conv2d(width, width, 1),
            conv3x3(width, hidden, separable),
            nn.ReLU(),
            conv3x3(hidden, width, separable),
            nn.ReLU(),
            conv3x3(width, width, separable),
            nn.ReLU(),
        )


class CorrectionBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation around a shortcut.

    The published head has no normalisation and ends in a ReLU. At the start its answers are so small that a correction
    made of them learns next to nothing in a short training (docs/results.md).
    """

    def __init__(self, width: int, hidden: int, separable: bool = False) -> None:
        super().__init__()
        self.conv1 = conv3x3(width, hidden, separable, bias=False)
        self.norm1 = nn.GroupNorm(math.gcd(GROUPS, hidden), hidden)
        self.conv2 = conv3x3(hidden, width, separable, bias=False)
        self.norm2 = nn.GroupNorm(math.gcd(GROUPS, width), width)

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        """Each sample by its own statistics: it may be the only one of its task in the batch."""
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))


def to_tokens(x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b n d"]:
    """A map as a row-major sequence."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Float[Tensor, "b n d"], size: tuple[int, int]) -> Float[Tensor, "b d h w"]:
    """The reverse of `to_tokens`."""
    return tokens.transpose(1, 2).unflatten(2, size)
