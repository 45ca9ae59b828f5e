"""How alike images are by their features, and a table of it that stays small."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64

ENTRIES = 32_000_000
"""How many likenesses a table may hold, 8 bytes each."""
FEWEST, MOST = 256, 16_384
"""References of a table: not fewer where there are so many images, for a fair sample; not more, for time's sake."""
_ROWS = 256
_MEDIAN_OF = 2048
_SAME = 1e-9
_LEAST = 1e-6


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
    """The median over points of the squared distance to the k-th nearest other one; of many points, over some."""
    if len(points) < 2:
        return 0.0
    at = min(k, len(points) - 1)
    asked = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MEDIAN_OF)).astype(np.int64))
    lengths = _squared_lengths(points)
    found = [np.partition(_squared(points[rows], points, lengths), at, axis=1)[:, at] for rows in _blocks(asked)]
    return float(np.median(np.concatenate(found)))


def likeness(
    points: Float64[np.ndarray, "k d"], others: Float64[np.ndarray, "m d"], squared_reach: float
) -> Float64[np.ndarray, "k m"]:
    """1 for equal points, falling with the squared distance to 0 at the reach and beyond."""
    return _falling(_squared(points, others, _squared_lengths(others)), squared_reach)


@dataclass(frozen=True)
class LikenessTable:
    """How like each of r references each of n images is, where it is more than a millionth.

    Attributes:
        references: indices of the images that are references, in ascending order.
        squared_reach: see `likeness`.
        starts, columns, values: row i holds `values[starts[i]:starts[i + 1]]` for the references of that place in
            `columns`.
    """

    references: Int64[np.ndarray, "r"]
    squared_reach: float
    starts: Int64[np.ndarray, "n_and_1"]
    columns: Int32[np.ndarray, "entries"]
    values: Float32[np.ndarray, "entries"]

    def row(self, image: int) -> tuple[Int32[np.ndarray, "k"], Float32[np.ndarray, "k"]]:
        """Which references an image is like, and how much."""
        part = slice(self.starts[image], self.starts[image + 1])
        return self.columns[part], self.values[part]


def likeness_table(
    points: Float64[np.ndarray, "n d"], tasks: int, labels: float, rng: np.random.Generator
) -> LikenessTable:
    """The table of images whose features are points, with the reach that so many labels need.

    All images are references if the table then keeps within `ENTRIES` and there are no more than `MOST`; else
    as many as do, drawn by chance.

    Args:
        labels: that there are and that are to come, over all tasks.
        rng: draws the references.
    """
    order = rng.permutation(len(points))
    count = reference_count(len(points), tasks, labels)
    while True:
        references = np.sort(order[:count])
        table = _table(points, references, tasks, labels)
        if table is not None:
            return table
        # Half of the images lie closer together than the median says.
        count = max(1, count // 2)


def reference_count(images: int, tasks: int, labels: float) -> int:
    """How many references a table of `ENTRIES` is expected to have room for."""
    per_reference = images * min(1.0, tasks / max(labels, 1.0))
    return min(images, int(np.clip(ENTRIES / per_reference, FEWEST, MOST)))


def _table(
    points: Float64[np.ndarray, "n d"], references: Int64[np.ndarray, "r"], tasks: int, labels: float
) -> LikenessTable | None:
    """None if it is too large."""
    others = points[references]
    lengths = _squared_lengths(others)
    squared_reach = reach(others, neighbours(len(others), tasks, labels))
    counts, columns, values = [np.zeros(1, dtype=np.int64)], [], []
    entries = 0
    for rows in _blocks(np.arange(len(points))):
        alike = _falling(_squared(points[rows], others, lengths), squared_reach).astype(np.float32)
        found = alike > _LEAST
        counts.append(found.sum(axis=1))
        columns.append(np.nonzero(found)[1].astype(np.int32))
        values.append(alike[found])
        entries += len(values[-1])
        if entries > 2 * ENTRIES and len(references) > 1:
            return None
    return LikenessTable(
        references, squared_reach, np.cumsum(np.concatenate(counts)), np.concatenate(columns), np.concatenate(values)
    )


def _blocks(rows: Int64[np.ndarray, "n"]) -> Iterator[Int64[np.ndarray, "k"]]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def _falling(squared: Float[np.ndarray, "k m"], squared_reach: float) -> Float[np.ndarray, "k m"]:
    return np.clip(1 - squared / max(squared_reach, _SAME), 0.0, 1.0)


def _squared_lengths(points: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n"]:
    return np.einsum("nd,nd->n", points, points)


def _squared(
    points: Float64[np.ndarray, "k d"], others: Float64[np.ndarray, "m d"], lengths: Float64[np.ndarray, "m"]
) -> Float64[np.ndarray, "k m"]:
    """Squared distances; exactly 0 for equal points, which rounding would otherwise keep apart."""
    distances = _squared_lengths(points)[:, None] + lengths - 2 * points @ others.T
    return np.where(distances < _SAME, 0.0, distances)
