"""A data set small enough for any test: every kind, in memory, each label a known function of the picture."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals

TASKS = (
    SemanticSegmentation("semseg", classes=("wall", "floor", "chair", "table")),
    Depth("depth"),
    SurfaceNormals("normals"),
    Saliency("saliency"),
    Boundary("edge"),
)
TASK_NAMES = tuple(task.name for task in TASKS)


class ToyDataset(DenseDataset):
    """Pictures that say where they are: red is the column, green the row, blue the image, each as a share of 255.

    `labels_at` gives every label as a function of red and green, so that a test can ask whether picture and labels
    still agree after whatever was done to both. Blue separates the images.

    Args:
        length: number of images, named "image 0", ...
        sizes: H, W of the images, taken in turn.
        annotated: names of the annotated tasks per index; all for an index that is left out.
        broken: (index, task) whose label cannot be read, as if its file were damaged.
        invalid: width in pixels of a band at the left where no label is valid.
    """

    def __init__(
        self,
        length: int = 8,
        sizes: Sequence[tuple[int, int]] = ((24, 32),),
        annotated: Mapping[int, Sequence[str]] | None = None,
        broken: Sequence[tuple[int, str]] = (),
        invalid: int = 0,
    ) -> None:
        self.name = "toy"
        self.tasks = TASKS
        self.names = tuple(f"image {index}" for index in range(length))
        self.sizes = sizes
        self.broken = frozenset(broken)
        self.invalid = invalid
        self.opened: list[tuple[int, str]] = []
        self._annotated = dict(annotated or {})

    def annotated(self, index: int) -> frozenset[str]:
        return frozenset(self._annotated.get(index, TASK_NAMES))

    def image(self, index: int) -> Tensor:
        height, width = self.sizes[index % len(self.sizes)]
        green, red = torch.meshgrid(_ramp(height), _ramp(width), indexing="ij")
        blue = torch.full_like(red, (index * 37 % 256) / 255)
        return (torch.stack([red, green, blue]) * 255).round().to(torch.uint8)

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        assert task in self.annotated(index), f"{task} of image {index} does not exist"
        self.opened.append((index, task))
        if (index, task) in self.broken:
            raise UserError(f"toy/{task}/{self.names[index]}.png: truncated; save it again")
        image = self.image(index).float() / 255
        valid = torch.ones(1, *image.shape[1:], dtype=torch.bool)
        valid[..., : self.invalid] = False
        return labels_at(image[0], image[1])[task], valid.as_subclass(ValidMap)


def _ramp(n: int) -> Tensor:
    return (torch.arange(n) + 0.5) / n


def labels_at(red: Tensor, green: Tensor) -> dict[str, LabelMap]:
    """Every label [C H W] of a picture of which red and green in [0, 1] say column and row."""
    raw = {
        "semseg": ((red > 0.5).long() + 2 * (green > 0.5).long()).to(torch.uint8)[None],
        "depth": (1 + 4 * red + 2 * green)[None],
        "normals": F.normalize(torch.stack([red - 0.4, green - 0.3, torch.full_like(red, 0.7)]), dim=0),
        "saliency": ((red - 0.3).square() + (green - 0.6).square() < 0.07)[None],
        "edge": ((red - 0.5).abs() < 0.02)[None] | ((green - 0.5).abs() < 0.02)[None],
    }
    return {task.name: raw[task.name].as_subclass(task.label_type) for task in TASKS}
