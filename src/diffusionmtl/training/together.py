"""What several training processes have to say to each other; alone, everything is said already."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """(which process this is, how many there are)."""
    return (dist.get_rank(), dist.get_world_size()) if _several() else (0, 1)


def any_of(said: bool, device: torch.device) -> bool:
    """Whether any process says so; all must ask."""
    if not _several():
        return said
    vote = torch.tensor(float(said), device=device)
    dist.all_reduce(vote, dist.ReduceOp.MAX)
    return bool(vote)


def least(number: float, device: torch.device) -> float:
    """The smallest number that any process gives; all must ask."""
    if not _several():
        return number
    smallest = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return float(smallest)


def means(mine: Mapping[str, Tensor], counts: Mapping[str, int], device: torch.device) -> dict[str, float]:
    """Means over all processes' samples, of those names that any process has samples of; all must ask.

    Args:
        mine: this process's means.
        counts: of how many samples each is; every name that any process may give, in the same order.
        device: that the processes talk through.
    """
    if not _several():
        return {name: float(value) for name, value in mine.items()}
    sums = torch.zeros(len(counts), 2, dtype=torch.float64, device=device)
    for row, (name, count) in zip(sums, counts.items(), strict=True):
        if name in mine:
            row[0], row[1] = mine[name].double() * count, count
    dist.all_reduce(sums)
    return {name: total / count for name, (total, count) in zip(counts, sums.tolist(), strict=True) if count}


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
