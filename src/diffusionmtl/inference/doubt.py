"""How doubtful a network is about an image it was not taught: what `suggest` ranks by. No label is opened here.

Three doubts per task, each a mean over the pixels of an image:

- *uncertainty*: the entropy of the stated probabilities; of a kind that states none, how far the draws disagree.
- *moved*: how far refinement, which sees what all tasks say, moved the first estimate.
- *apart*: how little the edges of a task lie where those of the other tasks lie.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from torch import Tensor

from diffusionmtl.data.transforms import fit
from diffusionmtl.inference.bands import Band
from diffusionmtl.inference.calibration import class_entropy
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.metrics.calibration import Temperature, entropy
from diffusionmtl.tasks import Task

ENTROPY = "entropy"
LARGEST_SEEN = (512, 512)
"""An image that nothing else shrinks is fitted into this before it is described by a feature."""


@dataclass(frozen=True)
class Draws:
    """How a network is asked.

    Attributes:
        samples: noise draws.
        seed: of the noise.
        flip: see the mirror image too; a network without noise is otherwise never unsure of depth and normals.
    """

    samples: int = 4
    seed: int = 0
    flip: bool = True


@dataclass(frozen=True)
class Doubt:
    """Of one task of one image.

    Attributes:
        uncertainty: from 0 to 1 for a kind that states probabilities, else in the task's spread unit; 0 or more.
        moved: in the task's spread unit, 0 or more; None for a network without refinement.
        apart: 0 (edges as those of the others) to 2; None for a single task.
    """

    uncertainty: float
    moved: float | None
    apart: float | None


def doubts(predictor: Predictor, image: UInt8[Tensor, "3 h w"], draws: Draws) -> dict[str, Doubt]:
    """Of every task of the network."""
    names = [task.name for task in predictor.tasks]
    sums = torch.zeros(2, len(names), dtype=torch.float64)
    edges = _Edges(len(names))
    refined = predictor.network.refiner is not None
    pixels = 0
    for band in _bands(predictor, image, draws, initial=True):
        for row, task in enumerate(predictor.tasks):
            found = band.tasks[task.name]
            sums[0, row] += uncertainty_map(predictor, task, band, draws).double().sum()
            if found.initial is not None:
                sums[1, row] += task.spread(torch.stack([found.initial, found.mean])).double().sum()
        pixels += band.tasks[names[0]].mean.shape[-2] * image.shape[-1]
        edges.add(predictor.tasks, band)
    means, apart = sums / pixels, edges.apart()
    return {
        name: Doubt(
            uncertainty=float(means[0, row]),
            moved=float(means[1, row]) if refined else None,
            apart=float(apart[row]) if len(names) > 1 else None,
        )
        for row, name in enumerate(names)
    }


def uncertainty_map(predictor: Predictor, task: Task, band: Band, draws: Draws) -> Float[Tensor, "h w"]:
    """What `Doubt.uncertainty` is the mean of; 0 where a network without noise has seen an image once."""
    calibration, found = predictor.calibration, band.tasks[task.name]
    odds = task.log_odds(found.mean)
    if odds is not None:
        fitted = None if calibration is None else calibration.tasks.get(task.name)
        if isinstance(fitted, Temperature):
            odds = odds / fitted.temperature + fitted.shift
        return entropy(odds)[0]
    if found.spread is None:
        return torch.zeros(found.mean.shape[-2:])
    # A calibration speaks of the draws for one image, not of those that its mirror image joins.
    if calibration is None or draws.flip:
        return found.spread[0]
    classes = class_entropy((other, band.tasks[other.name].mean) for other in predictor.tasks)
    return calibration.expected_error(task, found.mean, found.spread, classes)[0]


def uncertainty_unit(task: Task) -> str:
    """Of `Doubt.uncertainty`."""
    states_probabilities = type(task).log_odds is not Task.log_odds
    return ENTROPY if states_probabilities else task.spread_unit


def answers_and_doubts(
    predictor: Predictor, image: UInt8[Tensor, "3 h w"], tasks: Set[str], draws: Draws
) -> dict[str, tuple[Shaped[Tensor, "c h w"], Float[Tensor, "h w"]]]:
    """What is answered and how uncertain it is, per pixel, for some tasks: to be looked at."""
    chosen = [task for task in predictor.tasks if task.name in tasks]
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {task.name: [] for task in chosen}
    for band in _bands(predictor, image, draws):
        for task in chosen:
            found = band.tasks[task.name]
            parts[task.name].append((task.value(found.mean)[0], uncertainty_map(predictor, task, band, draws)))
    return {
        name: (torch.cat([v for v, _ in rows], dim=-2), torch.cat([u for _, u in rows], dim=-2))
        for name, rows in parts.items()
    }


@torch.inference_mode()
def pooled_feature(predictor: Predictor, image: UInt8[Tensor, "3 h w"]) -> Float64[Tensor, "d"]:
    """The mean over all places of the backbone's coarsest map: images with the same things have similar ones."""
    height, width = predictor.size or LARGEST_SEEN
    small = predictor.size is None and image.shape[-2] <= height and image.shape[-1] <= width
    seen = image if small else fit(image, (height, width))
    initial = predictor.network.initial
    picture, _ = initial.prepare(seen[None].to(predictor.device))
    return initial.backbone(picture)[-1].mean(dim=(2, 3))[0].double().cpu()


def _bands(predictor: Predictor, image: UInt8[Tensor, "3 h w"], draws: Draws, initial: bool = False) -> Iterator[Band]:
    tiling = predictor.tiling_for((image.shape[-2], image.shape[-1]))
    return predictor.bands(image, draws.samples, draws.seed, tiling=tiling, flip=draws.flip, initial=initial)


class _Edges:
    """Sums that the correlations between the edges of all tasks follow from."""

    def __init__(self, tasks: int) -> None:
        self._count = 0
        self._sum = torch.zeros(tasks, dtype=torch.float64)
        self._products = torch.zeros(tasks, tasks, dtype=torch.float64)

    def add(self, tasks: tuple[Task, ...], band: Band) -> None:
        # Edges are rare and strong; their square root keeps a few of them from deciding everything.
        seen = torch.stack([edges(task, band.tasks[task.name].mean).flatten().double().sqrt() for task in tasks])
        self._count += seen.shape[1]
        self._sum += seen.sum(dim=1)
        self._products += seen @ seen.T

    def apart(self) -> Float64[Tensor, "t"]:
        """1 - the mean correlation of a task's edges with those of each other task; a flat map correlates with none."""
        tasks = len(self._sum)
        if self._count == 0 or tasks < 2:
            return torch.ones(tasks, dtype=torch.float64)
        mean = self._sum / self._count
        covariance = self._products / self._count - mean[:, None] * mean
        deviation = covariance.diagonal().clamp(min=0).sqrt()
        scale = deviation[:, None] * deviation
        flat = scale <= 1e-12 * (1 + self._products.diagonal().max() / self._count)
        correlation = torch.where(flat, 0.0, covariance / torch.where(flat, 1.0, scale)).clamp(-1, 1)
        others = correlation.sum(dim=1) - correlation.diagonal()
        return 1 - others / (tasks - 1)


def edges(task: Task, estimate: Float[Tensor, "1 a h w"]) -> Float[Tensor, "g k"]:
    """How far a pixel, the one to its right and the one below differ, in the task's spread unit: [h - 1, w - 1]."""
    here, right, below = estimate[..., :-1, :-1], estimate[..., :-1, 1:], estimate[..., 1:, :-1]
    return task.spread(torch.stack([here, right, below]))[0]
