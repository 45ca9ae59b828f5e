"""What brings predictions and labels of unlike tasks into one space, where they can be compared.

Sources: XTC (Li et al., CVPR 2022); straight-through Gumbel-softmax (Jang et al., ICLR 2017).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.tasks.base import Task


class JointClasses(Task):
    """A kind whose raw output scores classes: in the joint space a map is one-hot."""

    @property
    def joint_channels(self) -> int:
        """One per class."""
        return self.channels

    def joint(
        self, raw: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "n j h w"]:
        """A class drawn per pixel, one-hot, straight through."""
        return straight_through(raw, generators)

    def joint_label(self, label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n j h w"]:
        """One-hot."""
        return one_hot(label[:, 0].long(), self.channels)


def straight_through(
    logits: Float[Tensor, "n c h w"], generators: Sequence[torch.Generator], temperature: float = 1.0
) -> Float[Tensor, "n c h w"]:
    """A class drawn per pixel as exact zeros and ones; its gradient is that of the softmax with the noise added.

    Args:
        generators: of the Gumbel noise, one per map, on any device: one on the CPU draws the same for all devices.
        temperature: of the softmax.
    """
    logits = _wide(logits)
    drawn = [torch.rand(logits.shape[1:], generator=one, device=one.device) for one in generators]
    u = (torch.stack(drawn) if drawn else torch.empty(logits.shape)).to(logits.device)
    # Kept off 0 and 1, where the noise would be infinite, instead of being drawn again.
    gumbel = -(-u.clamp(1e-7, 1 - 1e-7).log()).log()
    soft = ((logits + gumbel) / temperature).softmax(dim=1)
    return one_hot(soft.argmax(dim=1), soft.shape[1]) + (soft - soft.detach())


def one_hot(index: Integer[Tensor, "n h w"], classes: int) -> Float[Tensor, "n c h w"]:
    """Ones where the class is."""
    return F.one_hot(index.long(), classes).movedim(-1, 1).float()


def over_largest(x: Float[Tensor, "n 1 h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
    """Each map divided by its largest valid value: what is left does not depend on the unit."""
    x = _wide(x)
    largest = torch.where(valid[:, None], x, 0.0).amax(dim=(2, 3), keepdim=True)
    return x / (largest + 1e-12)


def _wide(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x if x.dtype == torch.float64 else x.float()
