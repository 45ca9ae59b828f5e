"""A partly labelled folder with the labels that a network predicted for it, which never pass for those of a person.

They lie in a place of their own, `<split>/predicted/<task>/<name>.png`, so whoever does not ask for them by name sees
the labels of people alone.
"""

from collections import Counter
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.base import StoredFile
from diffusionmtl.data.folder import PREDICTED, FolderDataset, label_files
from diffusionmtl.data.stored import StoredDataset
from diffusionmtl.labels import LabelMap, ValidMap


class CompletedDataset(StoredDataset):
    """A folder, its images labelled by predictions where no person labelled them.

    Attributes:
        folder: the same without predictions.
    """

    def __init__(self, folder: FolderDataset) -> None:
        self.folder = folder
        self.name, self.names, self.tasks, self.caveats = folder.name, folder.names, folder.tasks, folder.caveats
        self._split = folder.root / folder.split
        self._read_by = {task.name: task.with_unknown() for task in folder.tasks}
        self._found = predicted_files(folder)

    def annotated(self, index: int) -> frozenset[str]:
        """By whomever."""
        return self.folder.annotated(index) | self.predicted(index)

    def predicted(self, index: int) -> frozenset[str]:
        """The tasks that have a predicted file and none of a person."""
        name = self.names[index]
        return frozenset(t for t, found in self._found.items() if name in found) - self.folder.annotated(index)

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, upright."""
        return self.folder.image(index)

    def size(self, index: int) -> tuple[int, int]:
        """H, W of an image, upright."""
        return self.folder.size(index)

    def stored_label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its file; a person's where there is one."""
        if task not in self.predicted(index):
            return self.folder.stored_label(index, task)
        return self._read_by[task].read(self.path(index, task))

    def instead_of_labels(self, task: str) -> str:
        """What the folder says."""
        return self.folder.instead_of_labels(task)

    def path(self, index: int, task: str | None) -> Path:
        """The file; a KeyError where there is none."""
        if task is None or task not in self.predicted(index):
            return self.folder.path(index, task)
        name = self.names[index]
        return self._split / PREDICTED / task / (name + self._found[task][name])

    def where(self, index: int, task: str | None) -> str:
        """The path of the file."""
        return str(self.path(index, task))

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The file of a person's label. That of a prediction may say unknown where its task could not read it."""
        return None if task is not None and task in self.predicted(index) else self.folder.stored(index, task)


def predicted_files(folder: FolderDataset) -> dict[str, dict[str, str]]:
    """Per task, name -> suffix of every predicted label."""
    root = folder.root / folder.split / PREDICTED
    return {task.name: label_files(root / task.name, task, folder.root) for task in folder.tasks}


def predicted_counts(folder: FolderDataset) -> dict[str, int]:
    """Per task that has any, how many images are labelled by a prediction alone."""
    whole = CompletedDataset(folder)
    return dict(Counter(task for index in range(len(whole)) for task in sorted(whole.predicted(index))))
