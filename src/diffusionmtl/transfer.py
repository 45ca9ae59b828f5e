"""From the host to a device, without the host ever waiting for it.

Which images of a batch are labelled is known on the host from the moment they are loaded, and stays there: reading it
back from a device would stop the host until the device has caught up.
"""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from diffusionmtl.maps import in_channels_last


def sent(host: Shaped[Tensor, "*any"], device: torch.device) -> Shaped[Tensor, "*any"]:
    """A tensor of the host's on a device; from page-locked memory, which CUDA reads while the host goes on."""
    if device.type != "cuda":
        return host.to(device)
    return (host if host.is_pinned() else host.pin_memory()).to(device, non_blocking=True)


def picked(x: Shaped[Tensor, "b *rest"], rows: Int[Tensor, "n"]) -> Shaped[Tensor, "n *rest"]:
    """The images `rows`, known on the host, of a batch anywhere; the batch itself if that is all of it, in order."""
    if rows.tolist() == [*range(len(x))]:
        return x
    at = sent(rows, x.device)
    if in_channels_last(x):  # picking would lay channels apart
        return x.permute(0, 2, 3, 1).index_select(0, at).permute(0, 3, 1, 2)
    return x.index_select(0, at)
