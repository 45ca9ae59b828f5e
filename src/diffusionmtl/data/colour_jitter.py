"""Photometric distortion of training images: drawn once into a record, then applied."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ColourRanges:
    """How far a colour may go; each of the four changes is made with probability one half.

    The defaults are those of the published PASCAL-Context training (photometric distortion of SSD, Liu et al. 2016,
    without its channel swap).

    Attributes:
        brightness: added to R, G and B, up to this many of 255 steps either way.
        contrast: range of the factor on R, G and B.
        saturation: range of the factor on the saturation of HSV.
        hue: degrees by which the hue of HSV is turned, at most, either way.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0


@dataclass(frozen=True)
class ColourChange:
    """One draw: first brightness; then contrast, if it comes first; saturation; hue; contrast, if it comes last."""

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_first: bool = True
    saturation: float = 1.0
    hue: float = 0.0


def draw_colour(ranges: ColourRanges, generator: torch.Generator) -> ColourChange:
    """Draw which changes are made, and how much of each."""
    made = [u < 0.5 for u in torch.rand(5, generator=generator, dtype=torch.float64).tolist()]
    much = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    return ColourChange(
        brightness=_between(-ranges.brightness, ranges.brightness, much[0]) if made[0] else 0.0,
        contrast=_between(*ranges.contrast, much[1]) if made[1] else 1.0,
        contrast_first=made[4],
        saturation=_between(*ranges.saturation, much[2]) if made[2] else 1.0,
        hue=_between(-ranges.hue, ranges.hue, much[3]) if made[3] else 0.0,
    )


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


def change_colour(image: UInt8[Tensor, "3 h w"], change: ColourChange) -> UInt8[Tensor, "3 h w"]:
    """The image under a drawn change, rounded once at the end."""
    if change == ColourChange(contrast_first=change.contrast_first):
        return image
    rgb = image.float()
    if change.brightness:
        rgb = (rgb + change.brightness).clamp_(0, 255)
    if change.contrast_first:
        rgb = _contrast(rgb, change.contrast)
    if change.saturation != 1:
        rgb = _saturate(rgb, change.saturation)
    if change.hue:
        rgb = _turn_hue(rgb, change.hue)
    if not change.contrast_first:
        rgb = _contrast(rgb, change.contrast)
    return rgb.round_().to(torch.uint8)


def _contrast(rgb: Float[Tensor, "3 h w"], factor: float) -> Float[Tensor, "3 h w"]:
    return rgb if factor == 1 else (rgb * factor).clamp_(0, 255)


def _saturate(rgb: Float[Tensor, "3 h w"], factor: float) -> Float[Tensor, "3 h w"]:
    """HSV saturation times `factor`, at most 1; value and hue stay, so distances from the largest channel scale."""
    value = rgb.amax(dim=0)
    chroma = value - rgb.amin(dim=0)
    most = value / chroma.clamp(min=1e-6)
    return value - (value - rgb) * most.clamp_(max=factor)


def _turn_hue(rgb: Float[Tensor, "3 h w"], degrees: float) -> Float[Tensor, "3 h w"]:
    value = rgb.amax(dim=0)
    chroma = value - rgb.amin(dim=0)
    red, green, blue = rgb
    per = chroma.clamp(min=1e-6).reciprocal_()
    sextant = torch.where(
        value == red, (green - blue) * per, torch.where(value == green, (blue - red) * per + 2, (red - green) * per + 4)
    )
    sextant += degrees / 60
    # A channel lies below the value by the chroma times a trapezoid of its distance in hue; R, G, B stand at 5, 3, 1.
    offsets = torch.tensor([5.0, 3.0, 1.0])[:, None, None]
    k = torch.remainder(sextant + offsets, 6)
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)
