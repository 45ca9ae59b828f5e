"""Batch normalisation over the batches of all processes."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from diffusionmtl.models.network import Network


def synchronise(network: Network) -> None:
    """From now on the network normalises by the statistics of all processes' batches together, on any device.

    PyTorch's own layer needs a GPU; this one computes the same. Every decoder then takes part in every backward pass: a
    process without a label of a task has to answer those that have one.
    """
    synchronise_layers(network)
    network.initial.all_decoders_learn = True


def synchronise_layers(module: nn.Module, unequal: bool = False) -> None:
    """Put the layer below in the place of every batch normalisation in a module.

    Args:
        unequal: processes may hold batches of different sizes, or none; they then tell each other how large they are.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SyncedBatchNorm2d(child, unequal))
        else:
            synchronise_layers(child, unequal)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """The layer `like`, with its weights and whatever it does after normalising (timm joins the activation to it).

    All processes must hold batches of one size, unless `unequal`. Alone, and in evaluation, it is the layer itself.
    """

    def __init__(self, like: nn.BatchNorm2d, unequal: bool = False) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._parameters.update(like._parameters)
        self._buffers.update(like._buffers)
        self.drop = getattr(like, "drop", nn.Identity())
        self.act = getattr(like, "act", nn.Identity())
        self.unequal = unequal
        self.train(like.training)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalised."""
        alone = not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
        return self.act(self.drop(super().forward(input) if alone else self._together(input)))

    def _together(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        wide = x if x.dtype == torch.float64 else x.float()
        held = wide.shape[0] * wide.shape[2] * wide.shape[3]
        count = self._counted(held, wide.device) if self.unequal else held * dist.get_world_size()
        # In two passes: a mean of squares less the square of the mean would lose digits.
        mean = _summed(wide.sum(dim=(0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _summed(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        normalised = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)

    def _counted(self, held: int, device: torch.device) -> Float[Tensor, ""]:
        total = torch.tensor(float(held), dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.clamp(min=1)

    def _remember(self, mean: Float[Tensor, "c"], variance: Float[Tensor, "c"]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.float() if self.momentum is None else self.momentum
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            kept.lerp_(new.to(kept.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each gets the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _summed(x: Tensor) -> Tensor:
    return _Sum.apply(x)  # pyright: ignore[reportReturnType]
