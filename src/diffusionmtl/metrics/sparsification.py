"""Whether an uncertainty finds the errors: sparsification curves from sums that add up over images.

Pixels are taken away, the most uncertain first, and the mean error of those that stay is watched. An uncertainty that
knows the errors leaves the curve of the oracle, which takes the largest errors away first; one that knows nothing
leaves it flat (Ilg et al., ECCV 2018).

Uncertainties are kept in 4,096 bins, equal in ratio, from 1e-9 to 1e4 of whatever unit: 0.73 % wide each. Within a bin
pixels count as equally uncertain, and equals go by chance.
"""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

BINS = 4096
LOWEST, HIGHEST = 1e-9, 1e4
FRACTIONS = tuple(k / 100 for k in range(100))
"""Shares of the pixels that are taken away: 0, 0.01, ..., 0.99."""


def bin_of(uncertainty: Float[Tensor, "*pixels"]) -> Int64[Tensor, "*pixels"]:
    """Which bin an uncertainty of 0 or more lies in; NaN is the most uncertain."""
    share = (uncertainty.double().clamp(LOWEST, HIGHEST) / LOWEST).log() / math.log(HIGHEST / LOWEST)
    return (share * BINS).nan_to_num(nan=BINS).long().clamp(max=BINS - 1)


def ranked_sums(
    uncertainty: Float[Tensor, "*pixels"], error: Float[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> Float64[Tensor, "3 4096"]:
    """Per bin of uncertainty the valid pixels, the sum of their uncertainties and the sum of their errors.

    Sums of several images add up. With the error as its own uncertainty they are those of the oracle.
    """
    u, e = uncertainty[valid].double(), error[valid].double()
    where = bin_of(u)
    return torch.stack([torch.bincount(where, weights, minlength=BINS) for weights in (torch.ones_like(u), u, e)])


def sparsification(sums: Float64[Tensor, "3 4096"]) -> Float64[Tensor, "100"]:
    """Mean error of the pixels that stay when 0, 1, ..., 99 % are gone, as a share of the mean error of all.

    NaN where there are no pixels or no errors.
    """
    count, _, error = sums
    kept = torch.cat([count.new_zeros(1), count.cumsum(0)])
    wrong = torch.cat([error.new_zeros(1), error.cumsum(0)])
    wanted = (1 - torch.tensor(FRACTIONS, dtype=torch.float64)) * kept[-1]
    upper = torch.searchsorted(kept, wanted).clamp(1, BINS)
    inside = (wanted - kept[upper - 1]) / (kept[upper] - kept[upper - 1])
    left = wrong[upper - 1] + inside * (wrong[upper] - wrong[upper - 1])
    return left / wanted / (wrong[-1] / kept[-1])


def ause(ranked: Float64[Tensor, "3 4096"], oracle: Float64[Tensor, "3 4096"]) -> float:
    """Area under the sparsification error: between a curve and the oracle's, 0 for an uncertainty that ranks as well.

    By trapezia over the shares 0 to 0.99 of pixels taken away, of curves that begin at 1.
    """
    return _area(sparsification(ranked) - sparsification(oracle))


def ause_of_chance(oracle: Float64[Tensor, "3 4096"]) -> float:
    """The area that an uncertainty without any knowledge is expected to have: its curve stays at 1."""
    return _area(1 - sparsification(oracle))


def _area(gap: Float64[Tensor, "100"]) -> float:
    return float(torch.trapezoid(gap, torch.tensor(FRACTIONS, dtype=torch.float64)))
