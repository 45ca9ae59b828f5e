"""What must hold before training starts, so that it does not fail an hour later."""

import math
from collections.abc import Callable, Sequence, Set
from statistics import median

from torch import Tensor

from diffusionmtl.data.base import DenseDataset, read_sample
from diffusionmtl.data.figures import Figures
from diffusionmtl.errors import UserError

_PADDED, _MULTIPLE = 0.25, 32


def check_tasks_labelled(dataset: DenseDataset) -> None:
    """Refuse a task of which no image has a label; nothing is opened.

    Raises:
        UserError: names the data set and the task.
    """
    wanting = list(dataset.tasks)
    for index in range(len(dataset)):
        have = dataset.annotated(index)
        wanting = [task for task in wanting if task.name not in have]
        if not wanting:
            return
    task = wanting[0]
    example = f"{task.name}/{dataset.names[0]}{task.suffixes[0]}"
    raise UserError(
        f"{dataset.name}: task '{task.name}' has no label for any of {len(dataset)} images; "
        + (dataset.instead_of_labels(task.name) or f"add files such as {example} or take the task out of dataset.yaml")
    )


def check_samples(
    dataset: DenseDataset,
    visible: Sequence[Set[str]],
    progress: Callable[[int, int], None] | None = None,
    fitted: tuple[int, int] | None = None,
) -> list[str]:
    """Read every image and every label that may be seen, once, so that a bad file shows now.

    Args:
        visible: per image, the tasks whose label may be seen; nothing else is opened.
        progress: called with the images done and all of them.
        fitted: H, W that whole images will be fitted into; None if they are cut instead.

    Returns:
        What is no error and yet looks wrong, about all labels of a task together or the shape of the images, a line
        each.

    Raises:
        UserError: the first file that cannot be read; or a task whose labels are valid nowhere in any image.
    """
    figures: dict[str, Figures] = {}
    first: dict[str, str] = {}
    aspects: list[float] = []
    for index, seen in enumerate(visible):
        sample = read_sample(dataset, index, seen)
        aspects.append(sample.image.shape[-2] / sample.image.shape[-1])
        for task in (task for task in dataset.tasks if task.name in sample.labels):
            if task.name not in figures:
                figures[task.name] = Figures(task)
                first[task.name] = str(dataset.path(index, task.name) or sample.name)
            label, valid = (x[task.name].as_subclass(Tensor) for x in (sample.labels, sample.valid))
            figures[task.name].add(task.describe(label, valid[0]), int(valid.sum()))
        if progress is not None:
            progress(index + 1, len(visible))
    seen_tasks = [task for task in dataset.tasks if task.name in figures]
    for task in seen_tasks:
        if not figures[task.name].weight:
            raise UserError(
                f"{dataset.name}: task '{task.name}': every label is unknown everywhere (the first is "
                f"{first[task.name]}), as 0 is in depth, and the ignore value in classes: no pixel to learn from; "
                "check how the files were written, or take the task out of dataset.yaml"
            )
    doubts = [
        f"task '{task.name}': {doubt}" for task in seen_tasks for doubt in task.doubts(figures[task.name].summary())
    ]
    return doubts + (_shape_doubts(aspects, fitted) if fitted and aspects else [])


def _shape_doubts(aspects: Sequence[float], size: tuple[int, int]) -> list[str]:
    """Pictures that are empty for a large part, because the images lie the other way round, for instance."""
    own, given = median(aspects), size[0] / size[1]
    empty = 1 - min(own, given) / max(own, given)
    sides = (math.sqrt(size[0] * size[1] * own), math.sqrt(size[0] * size[1] / own))
    height, width = (max(_MULTIPLE, _MULTIPLE * round(side / _MULTIPLE)) for side in sides)
    better = 1 - min(own, height / width) / max(own, height / width)
    if empty <= _PADDED or better >= empty:
        return []
    return [
        f"--size {size[0]} {size[1]} leaves {empty:.0%} of the picture empty, since images are {own:.2g} times as high "
        f"as wide; --size {height} {width} fits them for about the same work"
    ]
