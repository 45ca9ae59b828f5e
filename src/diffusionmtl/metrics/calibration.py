"""Whether what is stated comes true, and the few numbers that make it so.

A kind of task states either probabilities, through its log odds, or an expected error, through its spread. Both are
compared with what happened in bins of what was stated: a probability with how often it came true, an expected error
with the mean error. Sums per bin add up over images.

Log odds have one channel for a yes-or-no question (log p / (1 - p)), else one per class (log p).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.metrics.sparsification import BINS

RELIABILITY_BINS = 15
"""Of equal width over the probabilities from 0 to 1."""
SPREAD_GROUPS = 128
"""Neighbouring bins of `sparsification.ranked_sums` taken together: each spans a ratio of 1.26."""
HOTTEST = 20.0
"""Temperatures lie between 1 / 20 and 20: few labels of a network that knows little would drive them anywhere."""
_ITERATIONS = 100


class Temperature(NamedTuple):
    """Log odds are divided by the temperature (Guo et al., ICML 2017), and those of yes or no shifted (Platt)."""

    temperature: float
    shift: float


class Scale(NamedTuple):
    """The expected error is a sum of what foretells it, each times a number of 0 or more.

    Attributes:
        scale: of the spread.
        floor: what is expected anyway.
        classes: of the entropy of the classes at the same place, as the segmentation tasks of the network state them.
        extent: of the answer itself, for kinds whose errors grow with it.
    """

    scale: float
    floor: float
    classes: float = 0.0
    extent: float = 0.0

    def expected(
        self,
        spread: Float[Tensor, "*pixels"],
        classes: Float[Tensor, "*pixels"] | None = None,
        extent: Float[Tensor, "*pixels"] | None = None,
    ) -> Float[Tensor, "*pixels"]:
        """The error to expect; what is not known counts as 0."""
        found = self.scale * spread + self.floor
        if classes is not None:
            found = found + self.classes * classes
        return found if extent is None else found + self.extent * extent


def probabilities(log_odds: Float[Tensor, "n k *rest"], fitted: Temperature) -> Float[Tensor, "n k *rest"]:
    """The probability of yes (k = 1), or of every class."""
    if log_odds.shape[1] == 1:
        return (log_odds / fitted.temperature + fitted.shift).sigmoid()
    return (log_odds / fitted.temperature).softmax(dim=1)


def entropy(log_odds: Float[Tensor, "n k *rest"]) -> Float[Tensor, "n *rest"]:
    """Of the answer, as a share of the largest there can be: 0 sure, 1 all answers equally probable."""
    if log_odds.shape[1] == 1:
        log_odds = torch.cat([torch.zeros_like(log_odds), log_odds], dim=1)
    logs = log_odds.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1).clamp(max=0) / torch.tensor(float(logs.shape[1])).log().item()


def spoken(
    probability: Float[Tensor, "n k *rest"], label: Int64[Tensor, "n *rest"]
) -> tuple[Float[Tensor, "n *rest"], Float[Tensor, "n *rest"]]:
    """The probability that counts and whether it came true: of yes, or of the most probable class."""
    if probability.shape[1] == 1:
        return probability[:, 0], label.to(probability.dtype)
    surest, index = probability.max(dim=1)
    return surest, (index == label).to(probability.dtype)


def negative_log_likelihood(
    log_odds: Float[Tensor, "n k *rest"], label: Int64[Tensor, "n *rest"], fitted: Temperature
) -> Float[Tensor, "n *rest"]:
    """Of the label, in nats."""
    if log_odds.shape[1] == 1:
        shifted = (log_odds / fitted.temperature + fitted.shift)[:, 0]
        return F.binary_cross_entropy_with_logits(shifted, label.to(shifted.dtype), reduction="none")
    return F.cross_entropy(log_odds / fitted.temperature, label, reduction="none")


def reliability_sums(
    stated: Float[Tensor, "*pixels"], came_true: Float[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> Float64[Tensor, "3 15"]:
    """Per bin of a stated probability the valid pixels, the sum of what was stated and how often it came true."""
    said, true = stated[valid].double(), came_true[valid].double()
    where = (said * RELIABILITY_BINS).long().clamp(0, RELIABILITY_BINS - 1)
    weights = (torch.ones_like(said), said, true)
    return torch.stack([torch.bincount(where, of, minlength=RELIABILITY_BINS) for of in weights])


def expected_error_sums(ranked: Float64[Tensor, "3 4096"], fitted: Scale) -> Float64[Tensor, "3 128"]:
    """Per group of spreads the pixels, the sum of their expected errors and the sum of their errors.

    Exact, since an expected error is linear in the spread.

    Args:
        ranked: `sparsification.ranked_sums` of the spread.
    """
    count, spread, error = ranked.reshape(3, SPREAD_GROUPS, BINS // SPREAD_GROUPS).sum(dim=2)
    return torch.stack([count, fitted.scale * spread + fitted.floor * count, error])


def calibration_error(sums: Float64[Tensor, "3 bins"]) -> float:
    """Mean distance over the pixels between what their bin states and what came of it; NaN for no pixels.

    For probabilities the expected calibration error (Naeini et al., AAAI 2015), for spreads the like in their unit.
    """
    count, stated, came = sums
    return float((stated - came).abs().sum() / count.sum())


def fit_temperature(log_odds: Float[Tensor, "p k"], label: Int64[Tensor, "p"]) -> Temperature:
    """The temperature, and for yes or no the shift, under which p labels are most probable."""
    odds = log_odds.double()
    free = torch.zeros(2 if odds.shape[1] == 1 else 1, dtype=torch.float64, requires_grad=True)

    def coldness() -> Tensor:
        # Positive and bounded for every free number.
        return HOTTEST ** free[0].tanh()

    def loss() -> Tensor:
        scaled = odds * coldness()
        if odds.shape[1] > 1:
            return F.cross_entropy(scaled, label)
        return F.binary_cross_entropy_with_logits(scaled[:, 0] + free[1], label.double())

    _minimise(loss, free)
    return Temperature(1 / float(coldness().detach()), float(free.detach()[1]) if len(free) > 1 else 0.0)


def fit_scale(
    spread: Float[Tensor, "p"],
    error: Float[Tensor, "p"],
    classes: Float[Tensor, "p"] | None = None,
    extent: Float[Tensor, "p"] | None = None,
) -> Scale:
    """Numbers under which p errors are most probable, each exponential with its expected error as its mean."""
    e, mean = error.double(), float(error.double().mean())
    given = {"scale": spread, "floor": torch.ones_like(spread), "classes": classes, "extent": extent}
    typical = {word: float(x.double().mean()) for word, x in given.items() if x is not None}
    told = [word for word, size in typical.items() if size > 0]
    if mean <= 0:
        return Scale(0.0, mean)
    hints = torch.stack([given[word].double() / typical[word] for word in told], dim=1)
    e = e / mean
    free = torch.full((len(told),), 1 / len(told), dtype=torch.float64).log().requires_grad_()

    def loss() -> Tensor:
        expected = hints @ free.exp()
        return (expected.log() + e / expected).mean()

    _minimise(loss, free)
    numbers = {word: x * mean / typical[word] for word, x in zip(told, free.detach().exp().tolist(), strict=True)}
    return Scale(**{word: numbers.get(word, 0.0) for word in Scale._fields})


def _minimise(loss: Callable[[], Tensor], free: Tensor) -> None:
    search = torch.optim.LBFGS([free], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(closure)
    if not bool(free.isfinite().all()):
        raise ValueError("the fit of a calibration left the numbers; are all labels of one class?")
