"""Which (image, task) pairs to annotate next: plain functions over numbers that are known of every image.

What annotating some pairs is worth is a facility location. A label of image i for task t speaks for image j as far as
both are alike, s_ij from 0 to 1, and for another task of j a little. With w_jt the doubt about pair (j, t), 0 where
there is a label, and c_jt the likeness of the best label that speaks for it,

    F = sum over j, t of w_jt c_jt / sum over j, t of w_jt,

the share of all doubt that labels speak for. Doubt is relative within a task, so a task counts as much as it has pairs
without a label. F grows with every label and by ever less (it is monotone and submodular). So where all labels cost the
same, taking the pair that adds most, again and again, gives at least 63 % of the most that any choice gives (Nemhauser
et al. 1978); with prices, the better of taking what adds most per price and of taking what adds most gives 31 % in the
worst case (Leskovec et al. 2007). A near duplicate of what was taken adds nothing, and what an outlier adds is small.

How far likeness reaches follows from the budget: with few labels each has to speak for many images, with many each
speaks for itself, and F turns from preferring the typical into preferring the doubtful.
"""

import copy
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32

from diffusionmtl.inference.likeness import directions, likeness, likeness_table

Strategy = Literal["gain", "diversity", "uncertainty", "random"]

SHARED = 0.1
"""How far a label speaks for the other tasks of an image, as a share of how far it speaks for its own."""
_TINY = 1e-12


@dataclass(frozen=True)
class Pool:
    """What is known of n images and t tasks.

    Attributes:
        features: of the images, of any scale.
        labelled: pairs that need no label; never chosen.
        uncertainty: 0 or more, relative within a task (`relative`).
        disagreement: likewise; None if nothing is known of it.
        prices: per task, above 0.
    """

    features: Float64[np.ndarray, "n d"]
    labelled: Bool[np.ndarray, "n t"]
    uncertainty: Float64[np.ndarray, "n t"]
    disagreement: Float64[np.ndarray, "n t"] | None
    prices: Float64[np.ndarray, "t"]

    @property
    def doubt(self) -> Float64[np.ndarray, "n t"]:
        """Uncertainty and disagreement in equal parts; 0 where there is a label."""
        doubt = self.uncertainty if self.disagreement is None else (self.uncertainty + self.disagreement) / 2
        return np.where(self.labelled, 0.0, doubt)


@dataclass(frozen=True)
class Choice:
    """One pair to annotate.

    Attributes:
        image, task: indices into the pool.
        gain: what it adds to F when its turn comes, a share.
        price: of its label.
        alike: how much like the best-fitting image with a label of the task its image is by then, 0 to 1.
        speaks_for: how many images of the pool it speaks for better than what was there, in units of whole images.
    """

    image: int
    task: int
    gain: float
    price: float
    alike: float
    speaks_for: float


def relative(values: Float64[np.ndarray, "n t"], labelled: Bool[np.ndarray, "n t"]) -> Float64[np.ndarray, "n t"]:
    """Values by their mean over the task's pairs without a label, so that tasks of all units can be added.

    0 for pairs with a label; else 1 for a task of which nothing differs from 0.
    """
    open_pairs = ~labelled
    counts = open_pairs.sum(axis=0)
    means = np.where(open_pairs, values, 0.0).sum(axis=0) / np.maximum(counts, 1)
    scaled = np.where(means > _TINY, values / np.where(means > _TINY, means, 1.0), 1.0)
    return np.where(open_pairs, scaled, 0.0)


def choose(pool: Pool, budget: float, by: Strategy, rng: np.random.Generator) -> list[Choice]:
    """The pairs that a budget buys, in the order in which they are worth buying.

    Args:
        budget: the prices may add up to so much.
        by: `gain`; `diversity`, the same with equal doubt everywhere; `uncertainty` per price alone, whatever is alike;
            or `random`, every pair without a label as likely as another.
        rng: of the draw of reference images and of `random`. The same generator gives the same pairs.
    """
    doubt = (~pool.labelled).astype(np.float64) if by == "diversity" else pool.doubt
    objective = Objective(pool, doubt, budget, rng)
    if by in ("gain", "diversity"):
        return _best(objective, pool, doubt, budget)
    return [objective.take(*pair) for pair in _affordable(_order(pool, by, rng), pool, budget)]


def _order(pool: Pool, by: Strategy, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    pairs = np.argwhere(~pool.labelled)
    if by == "random":
        order = rng.permutation(len(pairs))
    else:
        worth = (pool.uncertainty / pool.prices)[pairs[:, 0], pairs[:, 1]]
        order = np.argsort(-worth, kind="stable")
    return ((int(image), int(task)) for image, task in pairs[order])


def _affordable(order: Iterator[tuple[int, int]], pool: Pool, budget: float) -> Iterator[tuple[int, int]]:
    """Whatever of an order can still be paid."""
    left, cheapest = _with_room(budget), float(pool.prices.min())
    for image, task in order:
        if left < cheapest:
            return
        if pool.prices[task] <= left:
            left -= float(pool.prices[task])
            yield image, task


def _best(objective: "Objective", pool: Pool, doubt: Float64[np.ndarray, "n t"], budget: float) -> list[Choice]:
    """By gain per price or, if that comes to more, by gain alone: neither is good for all prices."""
    gains = objective.gains()
    found = []
    for divisors in (pool.prices, np.ones_like(pool.prices)):
        found.append(list(_greedy(objective.copy(), pool, gains / divisors, doubt / divisors, divisors, budget)))
        if np.all(pool.prices == pool.prices[0]):
            break
    # Rounded, since the same pairs in another order add up a little differently.
    return max(found, key=lambda choices: round(sum(one.gain for one in choices), 12))


def _greedy(
    objective: "Objective",
    pool: Pool,
    worth: Float64[np.ndarray, "n t"],
    doubt: Float64[np.ndarray, "n t"],
    divisors: Float64[np.ndarray, "t"],
    budget: float,
) -> Iterator[Choice]:
    """The best, again and again; gains only fall, so most of them need not be computed anew (Minoux 1978).

    Args:
        worth: the gains now, by `divisors`.
        doubt: likewise; decides between equals, pairs of images that no reference is like for instance.
        divisors: of gains, per task.
    """
    heap = [(-worth[i, t], -doubt[i, t], int(i), int(t), 0) for i, t in np.argwhere(~pool.labelled)]
    heapq.heapify(heap)
    left, taken = _with_room(budget), 0
    while heap:
        _, rest, image, task, seen = heapq.heappop(heap)
        if pool.prices[task] > left:
            continue
        if seen < taken:
            fresh = objective.gain(image, task) / divisors[task]
            heapq.heappush(heap, (-fresh, rest, image, task, taken))
            continue
        left -= float(pool.prices[task])
        taken += 1
        yield objective.take(image, task)


def _with_room(budget: float) -> float:
    """Prices such as 0.1 do not add up exactly."""
    return budget * (1 + 1e-9)


class Objective:
    """F of the module's text and the labels that it has so far.

    Args:
        doubt: w, 0 where there is a label.
        budget: what will be spent, for how far likeness reaches.
        rng: draws the reference images of a large pool.
    """

    def __init__(self, pool: Pool, doubt: Float64[np.ndarray, "n t"], budget: float, rng: np.random.Generator) -> None:
        tasks = doubt.shape[1]
        self._prices = pool.prices
        self._points = directions(pool.features)
        labels = float(pool.labelled.sum() + budget / pool.prices.mean())
        self._alike = likeness_table(self._points, tasks, labels, rng)
        asked = doubt[self._alike.references]
        self._weights = asked.T / (asked.sum() or 1.0)
        self._having = [np.flatnonzero(pool.labelled[:, task]).tolist() for task in range(tasks)]
        self._cover = np.zeros(self._weights.shape)
        for image, task in np.argwhere(pool.labelled):
            self._add(int(image), int(task))

    def copy(self) -> "Objective":
        """Another that goes its own way from here."""
        other = copy.copy(self)
        other._having = [list(of) for of in self._having]
        other._cover = self._cover.copy()
        return other

    def gains(self) -> Float64[np.ndarray, "n t"]:
        """What each pair would add now."""
        return np.array([self._added(*self._alike.row(image)) for image in range(len(self._points))])

    def gain(self, image: int, task: int) -> float:
        """What one pair would add now."""
        return float(self._added(*self._alike.row(image))[task])

    def take(self, image: int, task: int) -> Choice:
        """Add a label."""
        gain = self.gain(image, task)
        columns, values = self._alike.row(image)
        better = float(np.clip(values - self._cover[task, columns], 0, None).sum())
        labelled = self._points[self._having[task]]
        alike = likeness(self._points[[image]], labelled, self._alike.squared_reach) if len(labelled) else np.zeros(1)
        self._add(image, task)
        self._having[task].append(image)
        speaks_for = better * len(self._points) / len(self._alike.references)
        return Choice(image, task, gain, float(self._prices[task]), float(alike.max()), speaks_for)

    def _added(self, columns: Int32[np.ndarray, "k"], values: Float[np.ndarray, "k"]) -> Float64[np.ndarray, "t"]:
        weights, cover = self._weights[:, columns], self._cover[:, columns]
        own = (weights * np.clip(values - cover, 0, None)).sum(axis=1)
        others = (weights * np.clip(SHARED * values - cover, 0, None)).sum(axis=1)
        return own + others.sum() - others

    def _add(self, image: int, task: int) -> None:
        columns, values = self._alike.row(image)
        self._cover[:, columns] = np.maximum(self._cover[:, columns], SHARED * values)
        self._cover[task, columns] = np.maximum(self._cover[task, columns], values)
