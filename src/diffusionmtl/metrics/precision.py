"""From which confidence on predictions are right often enough: counts that add up over images, and thresholds.

A confidence in [0, 1] is kept in 65,536 levels, those of a 16-bit picture, so that what is decided is what is stored.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

LEVELS = 65_536
LEAST_SHARE = 0.001
"""A precision that is reached by fewer of the pixels counts as not reached: so few are right by chance."""


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps.

    Attributes:
        level: pixels of this level and above are kept.
        precision: share of the kept pixels that are right; NaN if none are kept.
        share: share of all pixels that are kept; NaN if there are none.
    """

    level: int
    precision: float
    share: float


def levels(confidence: Float[Tensor, "*pixels"]) -> Int32[Tensor, "*pixels"]:
    """The level of each confidence; NaN is 0."""
    return (confidence.double().nan_to_num(nan=0.0).clamp(0, 1) * (LEVELS - 1)).round().int()


def level_of(threshold: float) -> int:
    """The lowest level whose confidence is not below a threshold in [0, 1]."""
    return -int(-threshold * (LEVELS - 1) // 1)


def threshold_of(level: int) -> float:
    """The confidence that a level stands for."""
    return level / (LEVELS - 1)


def precision_counts(
    level: Int32[Tensor, "*pixels"], right: Bool[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> Int64[Tensor, "2 65536"]:
    """Valid pixels per level: the right ones, and all of them. Counts of several images add up."""
    return torch.stack([torch.bincount(level[where].long(), minlength=LEVELS) for where in (valid & right, valid)])


def kept_from(counts: Int64[Tensor, "2 65536"], level: int) -> Kept:
    """What a threshold at that level keeps; a level above all keeps nothing."""
    right, kept = counts[:, level:].sum(dim=1).tolist()
    everything = int(counts[1].sum())
    return Kept(level, right / kept if kept else float("nan"), kept / everything if everything else float("nan"))


def most_kept(
    counts: Int64[Tensor, "2 65536"],
    precision: float,
    least_share: float = LEAST_SHARE,
    among: Int64[Tensor, "2 65536"] | None = None,
) -> Kept | None:
    """The threshold that keeps most pixels of those that keep the precision.

    Args:
        among: counts of some of these pixels, of which some have to be kept and be right as often.

    Returns:
        None where not even the surest `least_share` of the pixels are right so often.
    """
    right, kept = counts.flip(-1).cumsum(dim=-1).flip(-1).double()
    # A level that no pixel has would let in pixels of which nothing was seen.
    enough = (counts[1] > 0) & (kept >= least_share * kept[0]) & (right >= precision * kept)
    if among is not None:
        right, kept = among.flip(-1).cumsum(dim=-1).flip(-1).double()
        enough &= (kept >= least_share * kept[0]) & (kept > 0) & (right >= precision * kept)
    found = enough.nonzero()
    return kept_from(counts, int(found[0])) if len(found) else None
