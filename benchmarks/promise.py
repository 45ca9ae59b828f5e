"""python benchmarks/promise.py [--draws N]: does `complete --precision` keep its word on images that it has not seen?

Draws held-out images of three kinds of data whose truth is known, finds a threshold by the bound and by the estimate
alone, and looks at both on a thousand other images. No network, one core, some minutes.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from diffusionmtl.metrics.precision import (  # noqa: E402
    Kept,
    Tally,
    kept_from,
    levels,
    most_kept,
    precision_counts,
    surely_kept,
)

PIXELS, OTHERS = 400, 1000
IMAGES = (1, 2, 3, 4, 6, 10, 20, 30)
Draw = Callable[[int, np.random.Generator], list[Tensor]]


def alike(images: int, generator: np.random.Generator, unlike: float = 0.0) -> list[Tensor]:
    """Each image has its own difficulty and is wrong of itself in its own way; a share `unlike` fails altogether."""
    logit = _logit(generator.beta(2, 1, size=(images, PIXELS)).clip(1e-6, 1 - 1e-6))
    shift = generator.normal(0, 0.7, size=(images, 1)) - 3 * (generator.random((images, 1)) < unlike)
    right = generator.random(logit.shape) < _probability(1.2 * logit + 1 + shift)
    return _counts(_probability(logit + generator.normal(0, 0.5, size=(images, 1))), right)


def sure(images: int, generator: np.random.Generator) -> list[Tensor]:
    """Sure and mostly right, but for one image in twelve, of which half is wrong however sure."""
    stated = generator.beta(5, 1, size=(images, PIXELS))
    chance = np.where(generator.random((images, 1)) < 1 / 12, 0.5, 0.995)
    return _counts(stated, generator.random(stated.shape) < chance)


DATA: dict[str, Draw] = {
    "images of one kind": alike,
    "one in ten of another kind": partial(alike, unlike=0.1),
    "sure, one in twelve half wrong": sure,
}
RULES: dict[str, Callable[[Tally, float], Kept | None]] = {
    "bound": surely_kept,
    "estimate": lambda tally, precision: most_kept(tally.counts, precision),
}


def main(words: list[str] | None = None) -> int:
    """Draw, choose, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200, help="of held-out images, for each number of them")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    print("per number of held-out images: promise held / of what could be kept / nothing kept")
    for name, draw in DATA.items():
        for precision in (0.9, 0.95):
            for rule in RULES:
                cells = (_cell(draw, precision, rule, images, given.draws) for images in IMAGES)
                print(f"{name}, {precision:g}, {rule}: {'  '.join(cells)}", flush=True)
    return 0


def _cell(draw: Draw, precision: float, rule: str, images: int, draws: int) -> str:
    generator = np.random.default_rng(images)
    others = torch.stack(draw(OTHERS, generator)).sum(dim=0)
    best = most_kept(others, precision)
    found = [RULES[rule](Tally.of(*draw(images, generator)), precision) for _ in range(draws)]
    then = [None if each is None else kept_from(others, each.level) for each in found]
    held = np.mean([each is None or each.precision >= precision for each in then])
    kept = np.mean([0.0 if each is None or best is None else min(1.0, each.share / best.share) for each in then])
    nothing = np.mean([each is None for each in then])
    return f"{images}: {held:.2f}/{kept:.2f}/{nothing:.2f}"


def _counts(stated: np.ndarray, right: np.ndarray) -> list[Tensor]:
    # Hundredths, as 65,536 levels of few pixels each would only take time.
    level = levels(torch.from_numpy(stated.round(2)))
    truth = torch.from_numpy(right)
    return [precision_counts(*one) for one in zip(level, truth, torch.ones_like(truth), strict=True)]


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def _probability(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


if __name__ == "__main__":
    sys.exit(main())
