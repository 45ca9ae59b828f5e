"""The networks, batches and label settings that are measured."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings, settings_from_flat
from diffusionmtl.models.network import Network
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import config_file
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.published import pascal_context_tasks
from diffusionmtl.types import Batch, TaskLabels

PAPER_SIZE = (512, 512)
SMALL_SIZE = (96, 128)
LEAST_SIZE = (64, 96)
PAPER = NetworkSettings(width=512, form="published")
SMALL = NetworkSettings(width=64)
THIN = NetworkSettings(backbone="test_efficientnet", width=16, blocks=1, token_stride=2)


def many_tasks(count: int) -> tuple[Task, ...]:
    """PASCAL-Context's five, over and over under other names."""
    five = pascal_context_tasks()
    return tuple(replace(five[n % 5], name=f"{five[n % 5].name}{n // 5 or ''}") for n in range(count))


def preset(name: str) -> NetworkSettings:
    """The network of a configuration that comes with the package."""
    return settings_from_flat(read_yaml(config_file(name)), name).network


def bare(settings: NetworkSettings) -> Network:
    """With fresh weights for PASCAL-Context's tasks."""
    return build_network(pascal_context_tasks(), settings)


def network(settings: NetworkSettings, tasks: Sequence[Task] | None = None) -> Network:
    """With fresh weights, none of them zero: a correction that is still zero would hide what is wrong."""
    made = build_network(tasks or pascal_context_tasks(), settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.startswith("refiner.denoiser.out."):
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return made


def labelled(images: int, tasks: int, protocol: str, seed: int = 0) -> np.ndarray:
    """Who has which label, bool [images tasks]: `one` in turn, `random` between 1 and tasks - 1, `full`, or `none`."""
    mask = np.zeros((images, tasks), dtype=bool)
    generator = np.random.default_rng(seed)
    for row in range(images):
        if protocol == "one":
            mask[row, row % tasks] = True
        elif protocol == "random":
            mask[row, generator.permutation(tasks)[: generator.integers(1, max(2, tasks))]] = True
        elif protocol == "full":
            mask[row] = True
    return mask


def batch(tasks: Sequence[Task], size: tuple[int, int], mask: np.ndarray, seed: int = 0) -> Batch:
    """Random pixels and labels with the given pairs labelled, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    labels = {}
    for task, column in zip(tasks, mask.T, strict=True):
        rows = torch.from_numpy(np.flatnonzero(column))
        value = _label(task, (len(rows), task.label_channels, *size), generator)
        labels[task.name] = TaskLabels(value, torch.rand(len(rows), *size, generator=generator) < 0.9, rows)
    return Batch(
        names=tuple(f"image {row}" for row in range(len(mask))),
        indices=tuple(range(len(mask))),
        image=torch.randint(0, 256, (len(mask), 3, *size), generator=generator, dtype=torch.uint8),
        labels=labels,
        pairs_per_image=torch.from_numpy(mask.sum(axis=1)),
    )


def _label(task: Task, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if task.label_dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.2
    if task.label_dtype.is_floating_point:
        return torch.rand(shape, generator=generator) + 0.5
    return torch.randint(0, task.channels, shape, generator=generator).to(task.label_dtype)
