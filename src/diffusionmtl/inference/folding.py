"""Batch normalisation folded into the convolution before it, in any network.

Which convolution comes before which normalisation is not guessed from names: the network runs once on a small picture,
and every function that reads a convolution's output is noted. A normalisation that is the only reader of what a
convolution gives, each of them run once, is an affine map after a linear one and becomes part of it. Whatever is read
twice, normalised by other means or computed from a weight that is not the convolution's own stays as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def fold_batch_norms(network: nn.Module, run: Callable[[], Iterable[Tensor]]) -> int:
    """Fold in place wherever it is exact; returns how many normalisations are gone.

    Args:
        network: in evaluation mode. Weights and biases are replaced, never written into: they may be shared.
        run: runs it on anything, and returns all that comes out.
    """
    pairs = _pairs(network, run)
    for convolution, norm in pairs:
        _absorb(convolution, norm)
    gone = {norm: _what_follows(norm) for _, norm in pairs}
    for parent in [*network.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.BatchNorm2d) and child in gone:
                setattr(parent, name, gone[child])
    return len(pairs)


class _Readers(TorchFunctionMode):
    """Notes what each convolution gives, and who reads it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._convolutions = {id(m.weight): m for m in network.modules() if isinstance(m, nn.Conv2d)}
        # Kept alive, so that no other tensor gets the identity of one of them.
        self.outputs: dict[int, Tensor] = {}
        self.given: dict[nn.Conv2d, list[int]] = defaultdict(list)
        self.readers: dict[int, list[tuple[Any, tuple]]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) for x in tree_leaves(result)):  # asking for a shape is not reading
            for x in tree_leaves((args, kwargs)):
                if id(x) in self.outputs:
                    self.readers[id(x)].append((func, args))
        if func is torch.conv2d and len(args) > 1 and id(args[1]) in self._convolutions:
            self.outputs[id(result)] = result
            self.given[self._convolutions[id(args[1])]].append(id(result))
        return result


def _pairs(network: nn.Module, run: Callable[[], Iterable[Tensor]]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    norms = {
        id(m.running_mean): m
        for m in network.modules()
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and not m.training
    }
    if not norms:
        return []
    with torch.no_grad(), _Readers(network) as seen:
        returned = {id(x) for x in run()}
    runs: dict[int, int] = defaultdict(int)
    for readers in seen.readers.values():
        for func, args in readers:
            if func is F.batch_norm and len(args) > 1:
                runs[id(args[1])] += 1
    pairs = []
    for convolution, outputs in seen.given.items():
        readers = seen.readers[outputs[0]]
        if len(outputs) != 1 or len(readers) != 1 or outputs[0] in returned:
            continue
        func, args = readers[0]
        if func is F.batch_norm and len(args) > 1 and id(args[1]) in norms and runs[id(args[1])] == 1:
            pairs.append((convolution, norms[id(args[1])]))
    return pairs


def _absorb(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """In float64: the product of two roundings would be a third."""
    assert norm.running_mean is not None and norm.running_var is not None
    kind = convolution.weight.dtype
    mean, deviation = norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()
    scale = (torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()) / deviation
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    before = torch.zeros_like(mean) if convolution.bias is None else convolution.bias.detach().double()
    weight = convolution.weight.detach().double() * scale[:, None, None, None]
    convolution.weight = nn.Parameter(weight.to(kind), requires_grad=False)
    convolution.bias = nn.Parameter(((before - mean) * scale + shift).to(kind), requires_grad=False)


def _what_follows(norm: nn.BatchNorm2d) -> nn.Module:
    """The activation, where timm joins it to the normalisation; dropout does nothing in evaluation."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()
