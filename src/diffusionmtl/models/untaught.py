"""Parts that a batch teaches nothing: their gradient is zero without computing it."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, *untaught: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (gradients[0], *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors))


def teaching_nothing(x: Float[Tensor, "0 *shape"], parameters: Iterable[nn.Parameter]) -> Float[Tensor, "0 *shape"]:
    """Predictions for no image, whose gradient is zero for each of the parameters.

    Every parameter then has a gradient after every batch, as optimisers that keep moments and processes that average
    their gradients rely on; a convolution over no image would give the same zeros for more work.
    """
    return _Zero.apply(x, *(parameter for parameter in parameters if parameter.requires_grad))


def parameters_of(network: nn.Module, task: str) -> list[nn.Parameter]:
    """Those that belong to one task alone: its members of every dictionary of modules."""
    own = [
        parameter
        for module in network.modules()
        if isinstance(module, nn.ModuleDict) and task in module
        for parameter in module[task].parameters()
    ]
    return list(dict.fromkeys(own))
