"""Masked losses: one number per sample, averaged over that sample's own valid pixels.

A sample without a valid pixel gives 0, connected to the graph, so that its gradient is 0 and never NaN. Formulas: the
objective of DiffusionMTL (arXiv 2403.15389) as tabulated for its published configuration.
"""

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.maps import unit


def mean_over_valid(per_pixel: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """Average over each sample's valid pixels; 0 where it has none."""
    total = torch.where(valid, per_pixel, per_pixel.new_zeros(())).sum(dim=(1, 2))
    return total / valid.sum(dim=(1, 2)).clamp(min=1)


def cross_entropy(
    raw: Float[Tensor, "n c h w"], label: Integer[Tensor, "n 1 h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """Cross entropy of logits against class indices in 0..c-1."""
    target = torch.where(valid, label[:, 0].long(), 0)
    return mean_over_valid(F.cross_entropy(raw, target, reduction="none"), valid)


def balanced_cross_entropy(
    raw: Float[Tensor, "n 2 h w"],
    label: Shaped[Tensor, "n 1 h w"],
    valid: Bool[Tensor, "n h w"],
    floor: float = 1e-3,
) -> Float[Tensor, "n"]:
    """Two-class cross entropy in which each class weighs as much as the other has pixels, per sample.

    The weight of the positive class is the share of negatives, kept within [floor, 1 - floor]: the published loss is
    exactly zero on a crop that shows one class only, this one still teaches it.
    """
    positive = label[:, 0].bool() & valid
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    weight = (1 - positive.sum(dim=(1, 2)).to(raw.dtype) / count).clamp(floor, 1 - floor)[:, None, None]
    per_pixel = F.cross_entropy(raw, positive.long(), reduction="none")
    return mean_over_valid(torch.where(positive, weight, 1 - weight) * per_pixel, valid)


def boundary_cross_entropy(
    raw: Float[Tensor, "n 1 h w"],
    label: Shaped[Tensor, "n 1 h w"],
    valid: Bool[Tensor, "n h w"],
    positive_weight: float = 0.95,
) -> Float[Tensor, "n"]:
    """Binary cross entropy in which boundary pixels weigh `positive_weight` and the others the rest."""
    logit = raw[:, 0]
    positive = label[:, 0].bool()
    per_pixel = torch.where(positive, positive_weight * F.softplus(-logit), (1 - positive_weight) * F.softplus(logit))
    return mean_over_valid(per_pixel, valid)


def absolute_error(
    raw: Float[Tensor, "n c h w"], label: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """L1 distance, summed over channels."""
    return mean_over_valid((raw - label).abs().sum(dim=1), valid)


def normal_absolute_error(
    raw: Float[Tensor, "n 3 h w"], label: Float[Tensor, "n 3 h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """L1 distance of the normalised prediction to the label, summed over the 3 components."""
    return absolute_error(unit(raw), label, valid)


def soft_cross_entropy(raw: Float[Tensor, "n c h w"], probability: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Cross entropy of logits against probabilities, averaged over all pixels."""
    return -(probability * raw.log_softmax(dim=1)).sum(dim=1).mean(dim=(1, 2))


def soft_boundary_cross_entropy(
    raw: Float[Tensor, "n 1 h w"], probability: Float[Tensor, "n 1 h w"], positive_weight: float = 0.95
) -> Float[Tensor, "n"]:
    """`boundary_cross_entropy` against probabilities that were themselves learnt with it, averaged over all pixels.

    With weight w, a share p of boundaries is best answered by q = w p / (w p + (1 - w)(1 - p)). Here q is given, p
    follows from it, and the loss is smallest where the sigmoid of `raw` is q again.
    """
    q, logit, w = probability[:, 0], raw[:, 0], positive_weight
    p = (1 - w) * q / ((1 - w) * q + w * (1 - q))
    return (w * p * F.softplus(-logit) + (1 - w) * (1 - p) * F.softplus(logit)).mean(dim=(1, 2))
