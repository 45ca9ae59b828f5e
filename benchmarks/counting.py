"""Work counted instead of timed: kernel launches, multiply-adds and the peak of live bytes, the same on every machine.

Everything runs on the meta device, which has shapes but no numbers: a step of the paper's size is counted in seconds
on a laptop, and code that asks the device for a number fails instead of being counted.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

META = torch.device("meta")
# They make a tensor without writing to it.
_SILENT = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
    torch.ops.aten.detach.default,
    torch.ops.aten._unsafe_view.default,
}


@dataclass(frozen=True)
class Work:
    """What a piece of code asks of a device.

    Attributes:
        launches: operations that write to at least one element, forward and backward; views are free.
        gmac: billions of multiply-adds in matrix products and convolutions.
        peak_bytes: largest sum of the bytes of all tensors alive at once, beyond those alive before.
    """

    launches: int
    gmac: float
    peak_bytes: int


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.launches = 0
        self.live = 0
        self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and tensor.device == META:
                self._see(tensor, size=0)  # it was there before, or is known
        found = func(*args, **(kwargs or {}))
        written = [x for x in tree_leaves(found) if isinstance(x, Tensor) and x.device == META and x.numel()]
        if written and not func.is_view and func not in _SILENT:
            self.launches += 1
        for tensor in written:
            self._see(tensor, tensor.untyped_storage().nbytes())
        return found

    def _see(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self.known:
            return
        self.known.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.live -= size


def count(code: Callable[[], object], before: nn.Module | None = None) -> Work:
    """Run it and count. What `before` owns is there already and counts for no bytes.

    It runs twice: the counter of arithmetic keeps maps alive that would be gone without it.
    """
    watch = _Watch()
    if before is not None:
        watch.known = {x.untyped_storage()._cdata for x in (*before.parameters(), *before.buffers())}
    with watch:
        code()
    flops = FlopCounterMode(display=False)
    with flops:
        code()
    return Work(watch.launches, flops.get_total_flops() / 2e9, watch.peak)
