"""Further views of a batch, made from it on its own device: each label follows by its kind's rules."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffusionmtl.data.transforms import Augmentation, augment
from diffusionmtl.labels import ValidMap
from diffusionmtl.tasks import Task
from diffusionmtl.types import Batch, Sample

ZOOMS = (1.0, 1.2, 1.5)


def scale_cropped(
    batch: Batch, tasks: Sequence[Task], generators: Sequence[torch.Generator], zooms: Sequence[float] = ZOOMS
) -> Batch:
    """Each image enlarged by a random one of `zooms` and cut at random to its size, with all of its labels (XTC).

    Args:
        generators: one per image, on the CPU whatever the device of the batch.
    """
    size = (batch.image.shape[-2], batch.image.shape[-1])

    def change(sample: Sample, generator: torch.Generator) -> Sample:
        zoom = zooms[int(torch.randint(len(zooms), (), generator=generator))]
        return augment(sample, Augmentation(size, scale=(zoom, zoom), flip=0.0, colour=None), generator)

    return changed(batch, tasks, generators, change)


def changed(
    batch: Batch,
    tasks: Sequence[Task],
    generators: Sequence[torch.Generator],
    change: Callable[[Sample, torch.Generator], Sample],
) -> Batch:
    """The batch with every image and its labels changed; `change` keeps their size and which labels there are."""
    samples = [change(*pair) for pair in zip(samples_of(batch, tasks), generators, strict=True)]
    labels = {}
    for task in tasks:
        old = batch.labels[task.name]
        mine = [sample for sample in samples if task.name in sample.labels]
        if mine:
            value = torch.stack([sample.labels[task.name].as_subclass(Tensor) for sample in mine])
            valid = torch.stack([sample.valid[task.name].as_subclass(Tensor)[0] for sample in mine])
            old = replace(old, value=value.contiguous(), valid=valid.contiguous())
        labels[task.name] = old
    return replace(batch, image=torch.stack([sample.image for sample in samples]), labels=labels)


def samples_of(batch: Batch, tasks: Sequence[Task]) -> list[Sample]:
    """A batch as its samples again, on its device."""
    place = {task.name: {row: n for n, row in enumerate(batch.labels[task.name].rows.tolist())} for task in tasks}
    samples = []
    for row, (name, index) in enumerate(zip(batch.names, batch.indices, strict=True)):
        there = [task for task in tasks if row in place[task.name]]
        given = {task.name: (batch.labels[task.name], place[task.name][row]) for task in there}
        labels = {task.name: given[task.name][0].value[given[task.name][1]] for task in there}
        samples.append(
            Sample(
                name=name,
                index=index,
                image=batch.image[row],
                labels={task.name: labels[task.name].as_subclass(task.label_type) for task in there},
                valid={task: given[task][0].valid[given[task][1]][None].as_subclass(ValidMap) for task in given},
            )
        )
    return samples
