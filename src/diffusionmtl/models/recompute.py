"""Maps that are computed again in the backward pass instead of being kept: less memory for a second forward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Again = bool | Literal["light"]
"""Which maps are computed again: all inside a part, none, or those that cost next to nothing."""

_PRODUCTS = {
    torch.ops.aten.convolution.default,
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
}


def run(module: nn.Module, *inputs: Any, again: Again) -> Any:
    """The module's output. If `again`, only the inputs are kept for the backward pass, which runs the module again.

    If `again` is "light", the results of convolutions and matrix products are kept too, so that nothing but
    normalisations, activations and sums runs again. The second run draws what the first one drew and leaves batch
    statistics alone, so that gradients and state are the same either way.
    """
    if not (again and torch.is_grad_enabled()):
        return module(*inputs)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        if again != "light":
            return nullcontext(), _statistics_kept(module)
        first, second = create_selective_checkpoint_contexts(_kept)
        return first, _both(_statistics_kept(module), second)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


def _kept(context: Any, operation: Any, *words: Any, **more: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _PRODUCTS else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def _both(one: AbstractContextManager, other: AbstractContextManager) -> Iterator[None]:
    with one, other:
        yield


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation counts the batch in copies of its statistics, which are then forgotten."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
