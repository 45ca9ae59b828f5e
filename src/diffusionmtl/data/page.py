"""What a notebook shows of a data set: its tasks, how much of it is labelled, and a few images with their labels."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl import notebook
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task

_SHOWN = 2


@runtime_checkable
class Labelled(Protocol):
    """As much of a data set as the page shows."""

    name: str
    tasks: tuple[Task, ...]
    names: tuple[str, ...]

    def __len__(self) -> int: ...

    def annotated(self, index: int) -> frozenset[str]:
        """The tasks that the image has a label of."""
        ...

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image."""
        ...

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """One of its labels."""
        ...


def dataset_html(dataset: Labelled) -> str:
    """Self-contained HTML.

    Raises:
        UserError: a shown file cannot be read.
    """
    known = [dataset.annotated(index) for index in range(len(dataset))]
    rows = [
        [notebook.escape(task.name), task.kind, task.unit, str(sum(task.name in names for names in known))]
        for task in dataset.tasks
    ]
    title = f"<b>{notebook.escape(dataset.name)}</b>: {len(dataset):,} images"
    shown = "".join(_row(dataset, index) for index in range(min(_SHOWN, len(dataset))))
    return f"<div>{title}{notebook.table(['task', 'kind', 'unit', 'labelled images'], rows)}{shown}</div>"


def _row(dataset: Labelled, index: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(dataset.image(index).permute(1, 2, 0).numpy()))
    figures = [notebook.figure(dataset.names[index], image)]
    for task in dataset.tasks:
        if task.name in dataset.annotated(index):
            label, valid = (x.as_subclass(Tensor) for x in dataset.label(index, task.name))
            figures.append(notebook.figure(task.name, Image.fromarray(task.draw(label, valid[0]))))
    return f"<div>{''.join(figures)}</div>"
