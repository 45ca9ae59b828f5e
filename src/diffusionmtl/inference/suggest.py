"""Which (image, task) pairs to annotate next: plain functions over numbers that are known of every image.

What annotating some pairs is worth is a facility location. A label of image i for task t speaks for image j as far as
both are alike, s_ij from 0 to 1, and for another task of j a little. With w_jt the doubt about pair (j, t), 0 where
there is a label, and c_jt the likeness of the best label that speaks for it,

    F = mean over t of  sum_j w_jt c_jt / sum_j w_jt,

the share of all doubt that labels speak for. F grows with every label and by ever less (it is monotone and submodular),
so taking the pair that adds most per price, again and again, is a good way to spend a budget (Nemhauser et al. 1978), a
near duplicate of what was taken adds nothing, and what an outlier adds is small.

How far likeness reaches follows from the budget: with few labels each has to speak for many images, with many each
speaks for itself, and F turns from preferring the typical into preferring the doubtful.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

Strategy = Literal["gain", "diversity", "uncertainty", "random"]

SHARED = 0.1
"""How far a label speaks for the other tasks of an image, as a share of how far it speaks for its own."""
REFERENCES = 4096
"""Of more images than that, so many are drawn for labels to speak for: time and memory stay linear in the images."""
_ROWS = 256
_TINY = 1e-12
_SAME = 1e-9


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
        """Uncertainty and disagreement in equal parts."""
        return self.uncertainty if self.disagreement is None else (self.uncertainty + self.disagreement) / 2


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
    doubt = (~pool.labelled).astype(np.float64) if by == "diversity" else np.where(pool.labelled, 0.0, pool.doubt)
    objective = Objective(pool, doubt, budget, rng)
    if by in ("gain", "diversity"):
        return list(_greedy(objective, pool, budget))
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


def _greedy(objective: "Objective", pool: Pool, budget: float) -> Iterator[Choice]:
    """The best per price, again and again; gains only fall, so most of them need not be computed anew (Minoux 1978)."""
    gains = objective.gains()
    open_pairs = np.argwhere(~pool.labelled)
    heap = [(-gains[i, t] / pool.prices[t], int(i), int(t), 0) for i, t in open_pairs]
    heapq.heapify(heap)
    left, taken = _with_room(budget), 0
    while heap:
        _, image, task, seen = heapq.heappop(heap)
        if pool.prices[task] > left:
            continue
        if seen < taken:
            fresh = objective.gain(image, task)
            heapq.heappush(heap, (-fresh / pool.prices[task], image, task, taken))
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
        count, tasks = doubt.shape
        self._prices = pool.prices
        self._points = directions(pool.features)
        chosen = np.arange(count) if count <= REFERENCES else np.sort(rng.choice(count, REFERENCES, replace=False))
        self._references = self._points[chosen]
        self._weights = _shares(doubt[chosen])
        labels = float(pool.labelled.sum() + budget / pool.prices.mean())
        self._reach = reach(self._references, neighbours(len(chosen), tasks, labels))
        self._having = [[int(i) for i in np.flatnonzero(pool.labelled[:, task])] for task in range(tasks)]
        self._cover = np.zeros((tasks, len(chosen)))
        for rows in _blocks(np.flatnonzero(pool.labelled.any(axis=1))):
            alike = self._alike(rows)
            for task in range(tasks):
                if (of := pool.labelled[rows, task]).any():
                    self._add(alike[of].max(axis=0), task)

    def gains(self) -> Float64[np.ndarray, "n t"]:
        """What each pair would add now."""
        every = _blocks(np.arange(len(self._points)))
        return np.array([self._added(alike) for rows in every for alike in self._alike(rows)])

    def gain(self, image: int, task: int) -> float:
        """What one pair would add now."""
        return float(self._added(self._alike(np.array([image]))[0])[task])

    def take(self, image: int, task: int) -> Choice:
        """Add a label."""
        alike = self._alike(np.array([image]))[0]
        gain = float(self._added(alike)[task])
        speaks_for = float(np.clip(alike - self._cover[task], 0, None).sum()) * len(self._points) / len(alike)
        labelled = self._points[self._having[task]]
        nearest = float(likeness(self._points[[image]], labelled, self._reach).max()) if len(labelled) else 0.0
        self._add(alike, task)
        self._having[task].append(image)
        return Choice(image, task, gain, float(self._prices[task]), nearest, speaks_for)

    def _alike(self, rows: Int64[np.ndarray, "k"]) -> Float64[np.ndarray, "k r"]:
        return likeness(self._points[rows], self._references, self._reach)

    def _added(self, alike: Float64[np.ndarray, "r"]) -> Float64[np.ndarray, "t"]:
        own = (self._weights * np.clip(alike - self._cover, 0, None)).sum(axis=1)
        others = (self._weights * np.clip(SHARED * alike - self._cover, 0, None)).sum(axis=1)
        return own + others.sum() - others

    def _add(self, alike: Float64[np.ndarray, "r"], task: int) -> None:
        self._cover = np.maximum(self._cover, SHARED * alike)
        self._cover[task] = np.maximum(self._cover[task], alike)


def _blocks(rows: Int64[np.ndarray, "n"]) -> Iterator[Int64[np.ndarray, "k"]]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def _shares(doubt: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, "t r"]:
    """Of all doubt, per task in equal parts; one without doubt, or whose references all have labels, has none."""
    sums = doubt.sum(axis=0)
    return (doubt / np.where(sums > 0, sums, 1.0) / doubt.shape[1]).T


def directions(features: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """Features with every channel centred and of one scale, then of length 1; 0 for one that is the mean."""
    centred = features - features.mean(axis=0)
    deviation = centred.std(axis=0)
    flat = deviation <= 1e-9 * np.maximum(1.0, np.abs(features).max(axis=0))
    scaled = np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(length > 0, length, 1.0)


def neighbours(images: int, tasks: int, labels: float) -> int:
    """For how many images a label has to speak if all labels together are to speak for every pair."""
    return int(np.clip(round(images * tasks / max(labels, 1.0)), 1, max(images - 1, 1)))


def reach(points: Float64[np.ndarray, "r d"], k: int) -> float:
    """The median over points of the squared distance to the k-th nearest other one."""
    if len(points) < 2:
        return 0.0
    at = min(k, len(points) - 1)
    found = [
        np.partition(_squared(points[rows], points), at, axis=1)[:, at] for rows in _blocks(np.arange(len(points)))
    ]
    return float(np.median(np.concatenate(found)))


def likeness(
    points: Float64[np.ndarray, "k d"], others: Float64[np.ndarray, "m d"], squared_reach: float
) -> Float64[np.ndarray, "k m"]:
    """1 for equal points, falling with the squared distance to 0 at the reach and beyond."""
    return np.clip(1 - _squared(points, others) / max(squared_reach, _SAME), 0.0, 1.0)


def _squared(points: Float64[np.ndarray, "k d"], others: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, "k m"]:
    """Squared distances; exactly 0 for equal points, which rounding would otherwise keep apart."""
    norms = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    distances = norms - 2 * points @ others.T
    return np.where(distances < _SAME, 0.0, distances)
