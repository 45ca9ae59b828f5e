"""What a network costs: parameters, multiply-adds and memory, part by part, counted without computing anything."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from diffusionmtl.diffusion import NoNoise
from diffusionmtl.models.network import Network

# Where each part of the network lives; a weight or operation belongs to the longest name that fits.
PARTS: Mapping[str, str] = {
    "initial.backbone": "backbone",
    "initial.fusion": "fusion",
    "initial.trunk": "shared trunk",
    "initial.decoders": "initial decoders",
    "initial.heads": "initial heads",
    "refiner.condition": "condition",
    "refiner.denoiser.embed": "signal embedding",
    "refiner.denoiser.time": "step embedding",
    "refiner.denoiser.blocks": "transformer",
    "refiner.denoiser.heads": "refinement heads",
    "refiner.denoiser.shared_head": "refinement heads",
    "refiner.denoiser.out": "signal projection",
    "refiner.signal.heads": "final heads",
}
REST = "the rest"


@dataclass(frozen=True)
class PartCost:
    """What one part costs.

    Attributes:
        parameters: number of weights that training changes.
        gmac: billions of multiply-adds per image, matrix products and convolutions; all tasks are predicted.
        saved_bytes: what it keeps per image for the backward pass, in float32.
    """

    name: str
    parameters: int
    gmac: float
    saved_bytes: int


@dataclass(frozen=True)
class Cost:
    """What a network costs per image of one size.

    Attributes:
        size: H, W of the image.
        parts: those that the network has, in the order in which data flows through them.
    """

    size: tuple[int, int]
    parts: tuple[PartCost, ...]

    @property
    def total(self) -> PartCost:
        """The sum of the parts."""
        return PartCost(
            "total",
            sum(part.parameters for part in self.parts),
            sum(part.gmac for part in self.parts),
            sum(part.saved_bytes for part in self.parts),
        )

    def training_bytes(self, batch: int) -> int:
        """Float32 memory of a training step with every task labelled: weights, gradients, Adam's two moments, and maps.

        An estimate from below: workspaces and the allocator's gaps come on top.
        """
        return 4 * 4 * self.total.parameters + batch * self.total.saved_bytes

    def __str__(self) -> str:
        """A table, one part a line."""
        width = max(len(part.name) for part in (*self.parts, self.total))
        lines = [f"{'part':<{width}}  {'parameters':>12}  {'GMAC':>9}  {'maps kept':>11}"]
        for part in (*self.parts, self.total):
            figures = f"{part.parameters:>12,}  {part.gmac:>9.3f}  {part.saved_bytes / 2**20:>7.1f} MiB"
            lines.append(f"{part.name:<{width}}  {figures}")
        height, wide = self.size
        note = f"per image of {height} x {wide}, every task predicted; maps are kept in training only"
        return "\n".join([*lines, note])


def network_cost(network: Network, size: tuple[int, int]) -> Cost:
    """Count what a network costs for one image of H x W pixels.

    Nothing is computed and no memory is needed: shapes alone go through a copy of the network.
    """
    hollow = _on_meta(network)
    names = [*dict.fromkeys([*PARTS.values(), REST])]
    parameters = dict.fromkeys(names, 0)
    for name, parameter in hollow.named_parameters():
        parameters[_part(name)] += parameter.numel()
    image = torch.empty(1, 3, *size, device="meta")
    counter = FlopCounterMode(display=False)
    with _saved_bytes(hollow) as saved, counter:
        hollow(image, NoNoise())
    flops = _own_flops(hollow, counter)
    parts = [PartCost(name, parameters[name], flops[name] / 2e9, saved[name]) for name in names]
    return Cost(size, tuple(part for part in parts if part.parameters or part.gmac or part.saved_bytes))


def _on_meta(network: Network) -> Network:
    """A copy that has shapes but no numbers; the original's tensors are never copied."""
    hollow: dict[int, Tensor] = {}
    for parameter in network.parameters():
        hollow[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta", dtype=torch.float32))
    for buffer in network.buffers():
        hollow[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, hollow).eval().requires_grad_()


def _part(name: str) -> str:
    fits = [start for start in PARTS if f"{name}.".startswith(f"{start}.")]
    return PARTS[max(fits, key=len)] if fits else REST


def _own_flops(network: Network, counter: FlopCounterMode) -> dict[str, int]:
    """Operations per part; what no part did itself is the rest."""
    counts = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    found: dict[str, int] = defaultdict(int)
    for start, part in PARTS.items():
        prefix = f"{type(network).__name__}.{start}"
        # A container that is never called itself has no entry, its members have.
        found[part] += counts.get(prefix, 0) or sum(
            flops for name, flops in counts.items() if name.rpartition(".")[0] == prefix
        )
    found[REST] = counter.get_total_flops() - sum(found.values())
    return found


@contextmanager
def _saved_bytes(network: Network) -> Iterator[dict[str, int]]:
    """Bytes that autograd keeps while each part runs, every storage counted once and weights not at all."""
    running = [REST]
    found: dict[str, int] = defaultdict(int)
    weights = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in kept:
            kept[storage._cdata] = tensor  # alive, so that its place is not given to another
            found[running[-1]] += storage.nbytes()
        return tensor

    def enter(part: str) -> Callable[..., None]:
        return lambda *_given: running.append(part)

    def leave(*_given: object) -> None:
        running.pop()

    hooks = []
    for name, module in network.named_modules():
        if _part(name) != REST:
            hooks += [module.register_forward_pre_hook(enter(_part(name))), module.register_forward_hook(leave)]
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield found
    finally:
        for hook in hooks:
            hook.remove()
