"""From raw outputs on the network's grid to answers at an image's own size, a few rows at a time.

At full size the class probabilities of a large photograph take more memory than most machines have; its coarse outputs
take little. So the enlarging, the activation and the mean over draws are done for as many rows as fit into a budget.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.inference.tiles import Key, Maps, Plan
from diffusionmtl.tasks import Task

# Bytes for the activated draws of one task, a few times over.
BUDGET = 192_000_000
_COPIES = 4
FINAL, INITIAL = "final", "initial"


@dataclass(frozen=True)
class Estimates:
    """Activated outputs of one task for some images, at full size.

    Attributes:
        mean: over the noise draws.
        spread: their disagreement, in the task's spread unit; None for one draw.
        initial: before refinement; None for a network without refinement.
    """

    mean: Float[Tensor, "b a h w"]
    spread: Float[Tensor, "b h w"] | None
    initial: Float[Tensor, "b a h w"] | None


@dataclass(frozen=True)
class Band:
    """Some rows of an answer.

    Attributes:
        top: the first of them.
        tasks: per task what is known of them, for one image.
    """

    top: int
    tasks: Mapping[str, Estimates]


class _Rows:
    """Which rows of cells every row of the answer is made of: enlarged to the seen picture, then to the image."""

    def __init__(self, plan: Plan, size: tuple[int, int]) -> None:
        self.plan, self.size = plan, size
        seen, out = plan.size[0], size[0]
        at = np.arange(out, dtype=np.float64)
        self.in_seen = at if seen == out else np.clip((at + 0.5) * (seen / out) - 0.5, 0, seen - 1)
        cells = (np.arange(seen) + 0.5) / plan.stride - 0.5
        self.in_grid = np.clip(cells, 0, plan.grid[0] - 1)

    def ready(self, known: int) -> int:
        """How many rows of the answer follow from the first `known` rows of cells."""
        last_seen = np.ceil(self.in_seen).astype(int)
        return (
            int(np.searchsorted(np.floor(self.in_grid[last_seen]) + 1, known, side="left"))
            if (known < self.plan.grid[0])
            else self.size[0]
        )

    def first_cell(self, row: int) -> int:
        """The first row of cells that a row of the answer needs."""
        return int(self.in_grid[int(self.in_seen[row])])

    def at(self, coarse: Float[Tensor, "s c n w"], first: int, start: int, stop: int) -> Float[Tensor, "s c h W"]:
        """Rows `start` to `stop` of the answer, raw; `coarse` begins with row `first` of cells.

        The same numbers as `Canvas.to_image` and `resize` give for the whole, but for rounding.
        """
        low, high = int(self.in_seen[start]), int(np.ceil(self.in_seen[stop - 1]))
        seen = _lerp_rows(coarse, self.in_grid[low : high + 1] - first)
        seen = _columns(seen, self.plan.padded[1])[..., : self.plan.size[1]]
        if self.plan.size == self.size:
            return seen
        return _columns(_lerp_rows(seen, self.in_seen[start:stop] - low), self.size[1])


def _lerp_rows(x: Float[Tensor, "s c n w"], at: Float64[np.ndarray, "_"]) -> Float[Tensor, "s c h w"]:
    lower = np.floor(at).astype(np.int64)
    upper = np.minimum(np.ceil(at).astype(np.int64), x.shape[-2] - 1)
    part = torch.from_numpy((at - lower).astype(np.float32))[:, None].to(x)
    below, above = (x.index_select(-2, torch.from_numpy(i).to(x.device)) for i in (lower, upper))
    return below if not part.any() else torch.lerp(below, above, part)


def _columns(x: Float[Tensor, "s c h w"], width: int) -> Float[Tensor, "s c h W"]:
    if x.shape[-1] == width:
        return x
    return F.interpolate(x, size=(x.shape[-2], width), mode="bilinear", align_corners=False)


def bands(
    tasks: Sequence[Task],
    plan: Plan,
    size: tuple[int, int],
    views: Sequence[Iterable[Maps]],
    budget: int = BUDGET,
) -> Iterator[Band]:
    """The answer for one image, from top to bottom.

    Args:
        tasks: of the network.
        plan: the tiles.
        size: H, W of the answer.
        views: blocks of raw outputs from `blended`, under keys (FINAL, task) [draws c h w] and, if they are wanted,
            (INITIAL, task) [1 c h w]. The first view is of the image, a second one of its mirror image.
        budget: bytes that the draws of a task may take.
    """
    rows = _Rows(plan, size)
    known: list[dict[Key, Tensor]] = [{} for _ in views]
    first = done = 0
    for blocks in zip(*views, strict=True):
        known = [
            {key: torch.cat([before[key], new], dim=-2) if key in before else new for key, new in block.items()}
            for before, block in zip(known, blocks, strict=True)
        ]
        until = rows.ready(first + next(iter(known[0].values())).shape[-2])
        while done < until:
            stop = min(until, done + _band_height(known, size[1], rows, budget))
            yield Band(done, {task.name: _estimates(task, known, _cut(rows, first, done, stop)) for task in tasks})
            done = stop
        if done < size[0]:
            drop = rows.first_cell(done) - first
            known = [{key: x[..., drop:, :] for key, x in of.items()} for of in known]
            first += drop


def _cut(rows: _Rows, first: int, start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda coarse: rows.at(coarse, first, start, stop)


def _band_height(known: Sequence[Maps], width: int, rows: _Rows, budget: int) -> int:
    draws = sum(max(x.shape[0] * x.shape[1] for x in of.values()) for of in known)
    # Of an image that was enlarged to be seen, a row of the answer takes several rows of what was seen.
    width = max(width, rows.plan.padded[1]) * max(1, -(-rows.plan.size[0] // rows.size[0]))
    return max(1, budget // (4 * _COPIES * draws * width))


def _estimates(task: Task, views: Sequence[Maps], cut: Callable[[Tensor], Tensor]) -> Estimates:
    def activated(part: str) -> Tensor | None:
        """All draws of all views [s a h w]."""
        if (part, task.name) not in views[0]:
            return None
        seen = [task.activate(cut(of[part, task.name])) for of in views]
        return torch.cat([seen[0], *map(task.mirrored, seen[1:])])

    draws, before = activated(FINAL), activated(INITIAL)
    assert draws is not None
    return Estimates(
        mean=draws.mean(dim=0)[None].cpu(),
        spread=task.spread(draws[:, None]).cpu() if len(draws) > 1 else None,
        initial=None if before is None else before.mean(dim=0)[None].cpu(),
    )
