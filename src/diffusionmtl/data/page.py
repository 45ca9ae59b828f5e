"""What a notebook shows of a data set: its tasks, how much of it is labelled, and a few images with their labels."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from diffusionmtl import notebook

if TYPE_CHECKING:
    from diffusionmtl.data.base import DenseDataset

_SHOWN = 2


def dataset_html(dataset: "DenseDataset") -> str:
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


def _row(dataset: "DenseDataset", index: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(dataset.image(index).permute(1, 2, 0).numpy()))
    figures = [notebook.figure(dataset.names[index], image)]
    for task in dataset.tasks:
        if task.name in dataset.annotated(index):
            label, valid = (x.as_subclass(Tensor) for x in dataset.label(index, task.name))
            figures.append(notebook.figure(task.name, Image.fromarray(task.draw(label, valid[0]))))
    return f"<div>{''.join(figures)}</div>"
