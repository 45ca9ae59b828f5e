"""Samples of one size become a batch, in which every task has its place even when nobody labelled it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Task
from diffusionmtl.types import Batch, Sample, TaskLabels


def collate(samples: Sequence[Sample], tasks: Sequence[Task]) -> Batch:
    """Stack samples. Labels are kept for just the samples that have them; a task may have none at all.

    Args:
        samples: at least one.
        tasks: the whole task set. Labels of other tasks are left out.

    Raises:
        UserError: the images differ in size.
        ValueError: a label has not the channels that its task's kind announces.
    """
    first = samples[0]
    for sample in samples:
        if sample.image.shape != first.image.shape:
            raise UserError(
                f"images '{first.name}' {_size(first.image)} and '{sample.name}' {_size(sample.image)} differ in size "
                "and cannot share a batch; set a training size (--size H W)"
            )
    pairs = [sum(task.name in sample.labels for task in tasks) for sample in samples]
    return Batch(
        names=tuple(sample.name for sample in samples),
        indices=tuple(sample.index for sample in samples),
        image=torch.stack([sample.image for sample in samples]),
        labels={task.name: stack_labels(samples, task) for task in tasks},
        pairs_per_image=torch.tensor(pairs, dtype=torch.int64),
    )


def stack_labels(samples: Sequence[Sample], task: Task) -> TaskLabels:
    """The labels of one task for those of the samples that have one, as plain tensors of the task's type."""
    rows = [row for row, sample in enumerate(samples) if task.name in sample.labels]
    height, width = samples[0].image.shape[-2:]
    value = torch.empty(len(rows), task.label_channels, height, width, dtype=task.label_dtype)
    valid = torch.empty(len(rows), height, width, dtype=torch.bool)
    for n, row in enumerate(rows):
        label = samples[row].labels[task.name].as_subclass(Tensor)
        # Assignment would broadcast one channel over three.
        if label.shape != value.shape[1:]:
            raise ValueError(
                f"label of task '{task.name}' for '{samples[row].name}' is {tuple(label.shape)}, "
                f"not {tuple(value.shape[1:])}: does kind '{task.kind}' set label_channels?"
            )
        value[n] = label
        valid[n] = samples[row].valid[task.name].as_subclass(Tensor)[0]
    weights = [samples[row].weights.get(task.name, 1.0) for row in rows]
    return TaskLabels(
        value=value,
        valid=valid,
        rows=torch.tensor(rows, dtype=torch.int64),
        weight=None if all(weight == 1 for weight in weights) else torch.tensor(weights, dtype=torch.float64),
    )


def _size(image: Tensor) -> str:
    return f"({image.shape[-2]}x{image.shape[-1]})"
