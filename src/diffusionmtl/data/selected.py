"""A data set seen through fewer of its tasks."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset, StoredFile
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.labels import LabelMap, ValidMap


class SelectedTasks(DenseDataset):
    """Another data set of which only some tasks exist; labels of the others are never opened.

    Raises:
        UserError: the data set has no task of such a name.
    """

    def __init__(self, dataset: DenseDataset, tasks: Sequence[str]) -> None:
        by_name = {task.name: task for task in dataset.tasks}
        for name in tasks:
            if name not in by_name:
                raise UserError(
                    f"--tasks {name}: data set '{dataset.name}' has no such task.{nearest(name, by_name)} "
                    f"Known: {', '.join(by_name)}"
                )
        self.dataset = dataset
        self.name = dataset.name
        self.names = dataset.names
        self.tasks = tuple(task for task in dataset.tasks if task.name in tasks)
        self._chosen = frozenset(tasks)
        self.foreground_only = dataset.foreground_only & self._chosen
        self.caveats = dataset.caveats

    def annotated(self, index: int) -> frozenset[str]:
        """Of the chosen tasks."""
        return self.dataset.annotated(index) & self._chosen

    def informative(self, index: int) -> frozenset[str]:
        """Of the chosen tasks."""
        return self.dataset.informative(index) & self._chosen

    def predicted(self, index: int) -> frozenset[str]:
        """Of the chosen tasks."""
        return self.dataset.predicted(index) & self._chosen

    def instead_of_labels(self, task: str) -> str:
        """What the data set says."""
        return self.dataset.instead_of_labels(task)

    def path(self, index: int, task: str | None) -> Path | None:
        """Of the same file."""
        return self.dataset.path(index, task)

    def counted(self, index: int) -> frozenset[str]:
        """Of the chosen tasks."""
        return self.dataset.counted(index) & self._chosen

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The same image."""
        return self.dataset.image(index)

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """The same label, of a chosen task."""
        if task not in self._chosen:
            raise KeyError(task)
        return self.dataset.label(index, task)

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The same file."""
        return self.dataset.stored(index, task)
