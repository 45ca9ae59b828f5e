"""What a data set must be able to say, and how a sample is read so that hidden labels stay hidden."""

from abc import ABC, abstractmethod
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.page import dataset_html
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task
from diffusionmtl.types import Sample


class StoredFile(NamedTuple):
    """A file as it lies there: its suffix, `.png`, and its bytes."""

    suffix: str
    data: bytes

    @classmethod
    def at(cls, path: Path) -> "StoredFile":
        """The file of that path.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return cls(path.suffix, path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


class DenseDataset(ABC):
    """Images, each annotated for some of the data set's tasks.

    Attributes:
        name: a short word for messages.
        tasks: the task set, in the order of the data set's description.
        names: one name per image, unique; what a partition file uses.
        foreground_only: segmentation tasks whose label, by the rules of the data set, is unknown in a training picture
            that shows class 0 alone.
        caveats: what a person must know to compare figures on this data with others, a sentence each.
    """

    name: str
    tasks: tuple[Task, ...]
    names: tuple[str, ...]
    foreground_only: frozenset[str] = frozenset()
    caveats: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def _repr_html_(self) -> str:
        return dataset_html(self)

    @abstractmethod
    def annotated(self, index: int) -> frozenset[str]:
        """The names of the tasks for which this image has an annotation, known without opening one."""

    def informative(self, index: int) -> frozenset[str]:
        """The annotations that a partition drawn by chance may choose from.

        All of them, unless the data set knows of some that they say nothing, such as the body parts of nobody.
        """
        return self.annotated(index)

    def predicted(self, index: int) -> frozenset[str]:
        """The annotations that no person made, among those of `annotated`."""
        return frozenset()

    def counted(self, index: int) -> frozenset[str]:
        """The annotations that the figures of an evaluation are computed from.

        All of them, unless a benchmark scores some task on a list of images of its own.
        """
        return self.annotated(index)

    @abstractmethod
    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, RGB in [0, 255].

        Raises:
            UserError: the file cannot be read.
        """

    @abstractmethod
    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """One annotation at the size of its image, and where it means something.

        Raises:
            UserError: the file cannot be read or holds what the task cannot have.
        """

    def instead_of_labels(self, task: str) -> str:
        """For a task without any label: why what may seem to be one is none, with what to do; empty if unknown."""
        return ""

    def path(self, index: int, task: str | None) -> Path | None:
        """Where the file of `stored` lies on disk by itself; None where it does not."""
        return None

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The file that an image (`task` is None) or an annotation is read from, if its task reads it as it is.

        None where the annotation is made from something else, or does not lie in a file of its own.
        """
        return None


def read_sample(dataset: DenseDataset, index: int, visible: Set[str], predicted_weight: float = 1.0) -> Sample:
    """Read an image and those of its annotations that are visible. A hidden one is never opened.

    Args:
        predicted_weight: how much labels that are predictions count in the objective.
    """
    image = dataset.image(index)
    labels: dict[str, Tensor] = {}
    valid: dict[str, Tensor] = {}
    for task in dataset.tasks:
        if task.name in visible:
            labels[task.name], valid[task.name] = dataset.label(index, task.name)
    weights = dict.fromkeys(dataset.predicted(index) & labels.keys(), predicted_weight)
    return Sample(dataset.names[index], index, image, labels, valid, weights)
