"""Disturbed pictures for a student whose teacher sees them undisturbed: other colours, missing patches."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from diffusionmtl.transfer import sent

COLOUR = 0.25
BRIGHTNESS = 0.06
SATURATION = 0.4
TINT = 0.075
PATCHES = 2
PATCH_CHANCE = 0.25
_GREY = torch.tensor([0.299, 0.587, 0.114])


def disturbed(
    image: UInt8[Tensor, "b 3 h w"], generator: torch.Generator, rank: int = 0, world: int = 1
) -> UInt8[Tensor, "b 3 h w"]:
    """Each picture with another brightness, contrast, saturation and tint, and up to two patches of its mean colour.

    Everything is drawn on the CPU whatever the device, so that devices agree and none waits for another.

    Args:
        image: of this process.
        generator: on the CPU, in the same state in all processes.
        rank, world: this process and how many there are: each draws for all and takes its share, so that together they
            disturb as one would.
    """
    count, _, height, width = image.shape
    mine = slice(rank * count, (rank + 1) * count)
    draws = torch.rand(world * count, 8, generator=generator)[mine]
    patches = torch.rand(world * count, PATCHES, 5, generator=generator)[mine].tolist()
    change = sent(draws, image.device)[:, :, None, None, None]
    rgb = image.float() / 255
    rgb = rgb * _between(change[:, 0], COLOUR) + BRIGHTNESS * (2 * change[:, 1] - 1)
    rgb = _scaled_around(rgb.mean(dim=(1, 2, 3), keepdim=True), rgb, _between(change[:, 2], COLOUR))
    grey = (rgb * sent(_GREY, rgb.device)[:, None, None]).sum(dim=1, keepdim=True)
    rgb = _scaled_around(grey, rgb, _between(change[:, 3], SATURATION))
    rgb = rgb * _between(change[:, 4:7].squeeze(2), TINT)
    for picture, drawn in zip(rgb, patches, strict=True):
        for present, top, left, tall, wide in drawn:
            if present < PATCH_CHANCE:
                rows, columns = _stretch(top, tall, height), _stretch(left, wide, width)
                picture[:, rows, columns] = picture.mean(dim=(1, 2), keepdim=True)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def _between(u: Float[Tensor, "..."], reach: float) -> Float[Tensor, "..."]:
    return 1 - reach + 2 * reach * u


def _scaled_around(centre: Tensor, rgb: Tensor, factor: Tensor) -> Tensor:
    return centre + (rgb - centre) * factor


def _stretch(start: float, share: float, length: int) -> slice:
    """From an eighth to a third of a side, wherever it fits."""
    size = max(1, round(length * (1 / 8 + share * (1 / 3 - 1 / 8))))
    begin = int(start * (length - size + 1))
    return slice(begin, begin + size)
