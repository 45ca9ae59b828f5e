"""From which confidence on predictions are right often enough: counts that add up over images, and thresholds.

A confidence in [0, 1] is kept in 65,536 levels, those of a 16-bit picture, so that what is decided is what is stored.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from scipy.special import stdtrit
from torch import Tensor

LEVELS = 65_536
LEAST_SHARE = 0.001
"""A precision that is reached by fewer of the pixels counts as not reached: so few are right by chance."""
CONFIDENCE = 0.95
"""Of the bound at one threshold. Choosing among many makes about nine in ten of it, measured on simulated images."""
_WINDOW = 0.5


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


@dataclass(frozen=True)
class Tally:
    """What is known of the pixels of some images, of which each is one observation: its pixels err together.

    Attributes:
        counts: `precision_counts` of all of them.
        squares: of the pixels of a level and above, summed over images: kept², right · kept and right².
        images: how many they are.
    """

    counts: Int64[Tensor, "2 65536"]
    squares: Float64[Tensor, "3 65536"]
    images: int

    @classmethod
    def of(cls, *images: Int64[Tensor, "2 65536"]) -> "Tally":
        """The tally of the counts of each image; of none, everything is 0."""
        found = cls(torch.zeros(2, LEVELS, dtype=torch.int64), torch.zeros(3, LEVELS, dtype=torch.float64), 0)
        for counts in images:
            right, kept = _above(counts)
            found += cls(counts, torch.stack([kept * kept, right * kept, right * right]), 1)
        return found

    def __add__(self, other: "Tally") -> "Tally":
        """That of the images of both."""
        return Tally(self.counts + other.counts, self.squares + other.squares, self.images + other.images)

    def at_least(self) -> Float64[Tensor, "65536"]:
        """Per level a lower bound of the precision on images like these, of what is kept from there on; 0 if unknown.

        A precision p is too high for it if the mean over images of `right - p · kept` lies below 0 or above it by less
        than Student's quantile times its standard error: Fieller's bound for a ratio. One more image than there are
        stands for those that nobody saw: as large as the mean, and right in n / (n + 1) of what they are right in.
        Without it a few images that are right everywhere would promise that all are.
        """
        if not self.images:
            return torch.zeros(LEVELS, dtype=torch.float64)
        right, kept = _above(self.counts)
        unseen_right, unseen_kept = right / (self.images + 1), kept / self.images
        right, kept = right + unseen_right, kept + unseen_kept
        unseen = torch.stack([unseen_kept * unseen_kept, unseen_right * unseen_kept, unseen_right * unseen_right])
        kept_kept, right_kept, right_right = self.squares + unseen
        n = self.images + 1
        spread = float(stdtrit(n - 1, CONFIDENCE)) ** 2 * n / (n - 1)
        whole = 1 + spread / n
        a = whole * kept * kept - spread * kept_kept
        b = whole * right * kept - spread * right_kept
        c = whole * right * right - spread * right_right
        found = (b - (b * b - a * c).clamp(min=0).sqrt()) / a
        return torch.where(a > 0, found, 0.0).clamp(0, 1)


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
    right, kept = _above(counts)
    # A level that no pixel has would let in pixels of which nothing was seen.
    enough = (counts[1] > 0) & (kept >= least_share * kept[0]) & (right >= precision * kept)
    if among is not None:
        right, kept = _above(among)
        enough &= (kept >= least_share * kept[0]) & (kept > 0) & (right >= precision * kept)
    found = enough.nonzero()
    return kept_from(counts, int(found[0])) if len(found) else None


def surely_kept(
    tally: Tally, precision: float, least_share: float = LEAST_SHARE, among: Tally | None = None
) -> Kept | None:
    """`most_kept`, where not the precision on these images but its lower bound is kept, so that it holds on others.

    It has to be kept by all stricter thresholds too that keep at least half as many pixels: of many thresholds, one
    passes by the chance that few images agree just there.

    Args:
        among: of some of these pixels, in the same images, for which it has to hold as well.

    Returns:
        None where no threshold does, as of a single image, or of few that are unlike.
    """
    enough = (tally.counts[1] > 0) & _surely(tally, precision, least_share)
    if among is not None:
        enough &= _surely(among, precision, least_share)
    found = enough.nonzero()
    return kept_from(tally.counts, int(found[0])) if len(found) else None


def _surely(tally: Tally, precision: float, least_share: float) -> Bool[Tensor, "65536"]:
    """The levels from which on the bound keeps the precision, there and above it."""
    kept = _above(tally.counts)[1]
    seen = (kept > 0) & (kept >= least_share * kept[0])
    # Where all are right the bound is 1 but for rounding.
    failed = seen & (tally.at_least() < precision - 1e-6)
    before = torch.nn.functional.pad(failed.cumsum(0), (1, 0))
    highest = LEVELS - torch.searchsorted(kept.flip(0), _WINDOW * kept)
    return seen & (before[highest] == before[:-1])


def _above(counts: Int64[Tensor, "2 65536"]) -> Float64[Tensor, "2 65536"]:
    """Counts of a level and above."""
    return counts.flip(-1).cumsum(dim=-1).flip(-1).double()
