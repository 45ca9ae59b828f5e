"""An exported file against the network that it was made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusionmtl.export.graph import AnswerGraph

IMAGES = 20


@dataclass(frozen=True)
class Difference:
    """How far two answers to the same pictures are apart, in the unit of the output.

    Attributes:
        largest: at any pixel of any channel.
        mean: over all of them.
        scale: the largest number that the network itself gave.
    """

    largest: float
    mean: float
    scale: float


def sizes_to_check(multiple: int, count: int = IMAGES, seed: int = 0) -> list[tuple[int, int]]:
    """H, W of pictures, the first of them in need of no padding, the others of half to four times its sides."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(multiple // 2, 4 * multiple + 1, size=(count - 1, 2))
    return [(multiple, multiple), *((int(height), int(width)) for height, width in drawn)]


def differences(
    run: Callable[[Sequence[Tensor]], list[np.ndarray]], graph: AnswerGraph, sizes: Sequence[tuple[int, int]]
) -> dict[str, Difference]:
    """By output, over random pictures of these sizes with random noise; every fifth comes as two at once.

    Args:
        run: inputs as `AnswerGraph.forward` takes them to outputs in its order.
        graph: around the network that is right.
    """
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in graph.outputs}
    for number, size in enumerate(sizes):
        inputs = graph.example(2 if number % 5 == 4 else 1, size, seed=number)
        with torch.no_grad():
            right = graph(*inputs)
        for name, expected, given in zip(graph.outputs, right, run(inputs), strict=True):
            if given.shape != tuple(expected.shape):
                raise RuntimeError(f"{name}: {list(given.shape)} instead of {list(expected.shape)}")
            apart = np.abs(expected.numpy().astype(np.float64) - given)
            found[name].append((float(apart.max()), float(apart.mean()), float(expected.abs().max())))
    return {
        name: Difference(max(x[0] for x in each), sum(x[1] for x in each) / len(each), max(x[2] for x in each))
        for name, each in found.items()
    }
