"""Images for evaluation: whole, unpadded, in batches of one size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.transforms import fit
from diffusionmtl.types import TaskLabels

HELD_BATCHES = 8


@dataclass(frozen=True)
class EvaluationBatch:
    """Images that came out at one size.

    Attributes:
        indices: positions in the data set.
        image: as the network is to see them, RGB in [0, 255].
        sizes: H, W of each original; labels have this size.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    image: UInt8[Tensor, "b 3 h w"]
    sizes: tuple[tuple[int, int], ...]


def evaluation_batches(
    dataset: DenseDataset, indices: Iterable[int], size: tuple[int, int] | None, batch_size: int
) -> Iterator[EvaluationBatch]:
    """Read images and group those of equal size, so that no image is padded for the sake of another.

    Each image is read once. Images wait until `batch_size` of their size have come; at most `HELD_BATCHES * batch_size`
    wait, then the largest group goes first. The order depends on the sizes alone.

    Args:
        size: H, W into which every image is fitted, keeping its proportions; None leaves images as they are.
    """
    waiting: dict[tuple[int, int], list[tuple[int, UInt8[Tensor, "3 h w"], tuple[int, int]]]] = {}
    for index in indices:
        original = dataset.image(index)
        image = original if size is None else fit(original, size)
        height, width = image.shape[-2:]
        group = waiting.setdefault((height, width), [])
        group.append((index, image, (original.shape[-2], original.shape[-1])))
        if len(group) == batch_size:
            yield _batch(dataset, waiting.pop((height, width)))
        elif sum(map(len, waiting.values())) >= HELD_BATCHES * batch_size:
            yield _batch(dataset, waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
    for group in waiting.values():
        yield _batch(dataset, group)


def _batch(dataset: DenseDataset, group: list[tuple[int, UInt8[Tensor, "3 h w"], tuple[int, int]]]) -> EvaluationBatch:
    return EvaluationBatch(
        names=tuple(dataset.names[index] for index, _, _ in group),
        indices=tuple(index for index, _, _ in group),
        image=torch.stack([image for _, image, _ in group]),
        sizes=tuple(size for _, _, size in group),
    )


def evaluation_labels(dataset: DenseDataset, index: int) -> dict[str, TaskLabels]:
    """Every annotation of one image at its own resolution, read now: n = 1 for each annotated task, in task order."""
    labels: dict[str, TaskLabels] = {}
    for task in dataset.tasks:
        if task.name in dataset.annotated(index):
            value, valid = dataset.label(index, task.name)
            labels[task.name] = TaskLabels(
                value=value.as_subclass(Tensor)[None],
                valid=valid.as_subclass(Tensor),
                rows=torch.zeros(1, dtype=torch.int64),
            )
    return labels
