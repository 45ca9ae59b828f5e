"""The same network with less to do, for answering only: equal to it within rounding.

- Batch normalisations are folded into the convolutions before them.
- The 1x1 convolution that begins a published refinement head and the 3x3 after it are one 3x3.
- What a step index says is known in advance and becomes part of the embedding's bias.
- Queries, keys and values of the same tokens come out of one product (a denoiser without condition).
- Maps of several tasks are never joined to be taken apart again: only their tokens are.
- Sums and ReLUs are written over what nobody reads any more, and maps lie channels-last, as tokens do.
"""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffusionmtl.inference.folding import fold_batch_norms
from diffusionmtl.maps import resize
from diffusionmtl.models.blocks import (
    CorrectionBlock,
    CrossAttention,
    RefinementHead,
    ResidualBlock,
    SelfBlock,
    SeparableConv,
    to_map,
    to_tokens,
)
from diffusionmtl.models.denoiser import Denoiser
from diffusionmtl.models.network import Network


def streamlined(network: Network) -> Network:
    """A network of its own that answers as this one does, and cannot be trained.

    What needs no change is shared: the two need little more memory than one, and weights that change later may change
    in both, or in one of them. Outputs agree within 1e-4.
    """
    quick = _copy_of(network)
    with torch.no_grad():
        fold_batch_norms(quick.initial, lambda: _everything(quick))
        for parent in [*quick.modules()]:
            for name, child in [*parent.named_children()]:
                setattr(parent, name, _replaced(child))
        if quick.refiner is not None:
            quick.refiner.denoiser = _QuickDenoiser(quick.refiner.denoiser, quick.refiner.schedule.steps)
        for layer in quick.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight = nn.Parameter(layer.weight.contiguous(memory_format=torch.channels_last), False)
    return quick.requires_grad_(False).eval()


def in_bfloat16(quick: Network) -> None:
    """Keep the weights of convolutions and linear maps in bfloat16: autocast would convert them for every answer."""
    for layer in quick.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight = nn.Parameter(layer.weight.to(torch.bfloat16), False)


def _copy_of(network: Network) -> Network:
    """Modules of its own around the same tensors, each in a parameter of its own."""
    shared: dict[int, object] = {id(network.tasks): network.tasks}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    shared |= {id(b): b for b in network.buffers()}
    return copy.deepcopy(network, shared).eval()


def _everything(network: Network) -> list[Tensor]:
    initial = network.initial
    side = initial.multiple
    found = initial(torch.zeros(1, 3, side, 2 * side, dtype=torch.uint8, device=initial.mean.device))
    shared = [] if found.shared is None else [found.shared]
    return [*found.features.values(), *found.predictions.values(), *shared]


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, ResidualBlock) and not any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        return _Residual(module)
    if isinstance(module, RefinementHead) and not any(isinstance(m, SeparableConv) for m in module):
        return _Head(module)
    if isinstance(module, CorrectionBlock):
        return _Correction(module)
    if isinstance(module, SelfBlock):
        module.attn = _SelfAttention(module.attn)  # pyright: ignore[reportAttributeAccessIssue]
    return module


class _Residual(nn.Module):
    """`ResidualBlock` without normalisation."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        return self.conv2(self.conv1(x).relu_()).add_(x).relu_()


class _Head(nn.Module):
    """`RefinementHead` whose first two convolutions are one.

    The 3x3 pads with zeros what the 1x1 gives, its bias included inside and not outside: what the bias adds is
    therefore less at the border, and is added as what a map of ones would bring.
    """

    def __init__(self, head: RefinementHead) -> None:
        super().__init__()
        first, second, *rest = head.children()
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and first.bias is not None
        weight, point = second.weight.double(), first.weight[:, :, 0, 0].double()
        self.conv = nn.Conv2d(first.in_channels, second.out_channels, 3, padding=1, device=weight.device)
        self.conv.weight = nn.Parameter(torch.einsum("ohij,hc->ocij", weight, point).to(second.weight.dtype))
        self.conv.bias = second.bias
        taps = torch.einsum("ohij,h->oij", weight, first.bias.double())[:, None]
        self.register_buffer("taps", taps.to(second.weight.dtype))
        self.rest = nn.ModuleList(layer for layer in rest if isinstance(layer, nn.Conv2d))

    taps: Tensor

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        y = self.conv(x)
        y = y.add_(F.conv2d(torch.ones_like(y[:1, :1]), self.taps, padding=1)).relu_()
        for layer in self.rest:
            y = layer(y).relu_()
        return y


class _Correction(nn.Module):
    """`CorrectionBlock`, whose statistics are those of the map and cannot be folded."""

    def __init__(self, block: CorrectionBlock) -> None:
        super().__init__()
        self.conv1, self.norm1, self.conv2, self.norm2 = block.conv1, block.norm1, block.conv2, block.norm2

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        return self.norm2(self.conv2(self.norm1(self.conv1(x)).relu_())).add_(x)


class _SelfAttention(nn.Module):
    """`CrossAttention` of a token stream to itself."""

    def __init__(self, attention: CrossAttention) -> None:
        super().__init__()
        width = attention.q.in_features
        self.heads = attention.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False, device=attention.q.weight.device)
        self.qkv.weight = nn.Parameter(torch.cat([attention.q.weight, attention.kv.weight]))
        self.proj = attention.proj

    def forward(self, query: Float[Tensor, "b n d"], context: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = query.shape
        q, k, v = self.qkv(query).unflatten(-1, (3, self.heads, d // self.heads)).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(q, k, v)
        return self.proj(gathered.transpose(1, 2).reshape(b, n, d))


class _QuickDenoiser(Denoiser):
    """`Denoiser` that adds in place and keeps no map of all tasks together."""

    shift: Tensor

    def __init__(self, plain: Denoiser, steps: int) -> None:
        nn.Module.__init__(self)
        self.recompute = False
        self.conditioned, self.correction, self.token_stride = plain.conditioned, plain.correction, plain.token_stride
        self.embed, self.blocks, self.heads, self.out = plain.embed, plain.blocks, plain.heads, plain.out
        self.signal_channels, self.shared_head = plain.signal_channels, plain.shared_head
        self.register_buffer("shift", torch.stack([plain.time(step) for step in range(steps)]))

    def forward(
        self,
        signals: Mapping[str, Tensor],
        condition: Float[Tensor, "p m d"] | None,
        step: int,
    ) -> dict[str, Tensor]:
        """As `Denoiser`."""
        embedded = {task: self._embedded(task, x, step) for task, x in signals.items()}
        grid = self._token_grid(next(iter(embedded.values())))
        context = torch.cat([to_tokens(resize(x, grid)) for x in embedded.values()])
        query = context if condition is None else condition
        for block in self.blocks:
            query, context = block(query, context)
        parts = to_map(query, grid).split([x.shape[0] for x in signals.values()])
        return {
            task: self._estimate(task, x, embedded, part)
            for (task, x), part in zip(signals.items(), parts, strict=True)
        }

    def _embedded(self, task: str, x: Float[Tensor, "n c h w"], step: int) -> Float[Tensor, "n d h w"]:
        layer = self.embed[task]
        if isinstance(layer, SeparableConv):
            x, layer = layer.depthwise(x), layer.pointwise
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        # Its own way to convolve, whatever kind of convolution it is.
        return layer._conv_forward(x, layer.weight, layer.bias + self.shift[step])

    def _estimate(
        self, task: str, signal: Float[Tensor, "n c h w"], embedded: dict[str, Tensor], part: Float[Tensor, "n d k l"]
    ) -> Float[Tensor, "n c h w"]:
        own = embedded.pop(task)
        gathered = own.add_(resize(part, (own.shape[-2], own.shape[-1])))
        head = self.heads[task] if self.shared_head is None else self.shared_head
        estimate = self.out[task](head(gathered))
        return signal + estimate if self.correction else estimate
