"""Several data sets as one: all their tasks, each image labelled where its own data set labels it."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset, StoredFile
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task


class JoinedDataset(DenseDataset):
    """The union of data sets. Image names get the name of their data set in front: `people/0001`.

    Tasks of one name are one task where they mean the same. Where they do not (two segmentations with other classes),
    each becomes a task of its own, named after its data set too: `semseg_people`, `semseg_streets`. Where only their
    files are written otherwise the first stands for all, with files that can say what the others' say (`Task.beside`).

    Attributes:
        parts: the data sets, in order.
    """

    def __init__(self, parts: Sequence[DenseDataset]) -> None:
        if not parts:
            raise ValueError("nothing to join")
        self.parts = tuple(parts)
        prefixes = _unique_names(self.parts)
        self.name = "+".join(prefixes)
        self._words = _task_names(self.parts, prefixes)
        united: dict[str, Task] = {}
        for part, words in zip(self.parts, self._words, strict=True):
            for task in part.tasks:
                own = replace(task, name=words[task.name])
                united[own.name] = united[own.name].beside(own) if own.name in united else own
        self.tasks = tuple(united.values())
        self.caveats = tuple(caveat for part in self.parts for caveat in part.caveats)
        # A task shared with a data set of other rules keeps the rules of neither.
        self.foreground_only = frozenset(
            joined
            for joined in united
            if all(
                word in part.foreground_only
                for part, words in zip(self.parts, self._words, strict=True)
                for word, name in words.items()
                if name == joined
            )
        )
        self.names = tuple(f"{p}/{name}" for p, part in zip(prefixes, self.parts, strict=True) for name in part.names)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def located(self, index: int) -> tuple[DenseDataset, int]:
        """The data set that an image comes from, and its index there."""
        at, i = self._place(index)
        return self.parts[at], i

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect_right(self._ends, index)
        return at, index - (self._ends[at - 1] if at else 0)

    def annotated(self, index: int) -> frozenset[str]:
        """What its own data set says."""
        at, i = self._place(index)
        return frozenset(self._words[at][task] for task in self.parts[at].annotated(i))

    def informative(self, index: int) -> frozenset[str]:
        """What its own data set says."""
        at, i = self._place(index)
        return frozenset(self._words[at][task] for task in self.parts[at].informative(i))

    def predicted(self, index: int) -> frozenset[str]:
        """What its own data set says."""
        at, i = self._place(index)
        return frozenset(self._words[at][task] for task in self.parts[at].predicted(i))

    def counted(self, index: int) -> frozenset[str]:
        """What its own data set says."""
        at, i = self._place(index)
        return frozenset(self._words[at][task] for task in self.parts[at].counted(i))

    def instead_of_labels(self, task: str) -> str:
        """What the first data set says that knows."""
        own = ((part, word) for part, words in zip(self.parts, self._words, strict=True) for word in words.items())
        return next(filter(None, (part.instead_of_labels(w) for part, (w, joined) in own if joined == task)), "")

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, from its own data set."""
        part, i = self.located(index)
        return part.image(i)

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """The label, from its own data set."""
        at, i = self._place(index)
        word = self._own_word(at, task)
        assert word is not None
        return self.parts[at].label(i, word)

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The file of its own data set, unless that reads it otherwise than the union would."""
        at, i = self._place(index)
        return self.parts[at].stored(i, self._own_word(at, task)) if self._read_alike(at, task) else None

    def path(self, index: int, task: str | None) -> Path | None:
        """Likewise."""
        at, i = self._place(index)
        return self.parts[at].path(i, self._own_word(at, task)) if self._read_alike(at, task) else None

    def _read_alike(self, at: int, task: str | None) -> bool:
        """Whether a file of a data set means the same to the union; an image always does."""
        if task is None:
            return True
        own = next(t for t in self.parts[at].tasks if t.name == self._own_word(at, task))
        return replace(own, name=task) == next(t for t in self.tasks if t.name == task)

    def _own_word(self, at: int, task: str | None) -> str | None:
        return None if task is None else next(word for word, joined in self._words[at].items() if joined == task)


def _task_names(parts: Sequence[DenseDataset], prefixes: Sequence[str]) -> list[dict[str, str]]:
    """Per part, what its tasks are called in the union."""
    meanings: dict[str, set[tuple[object, ...]]] = {}
    for part in parts:
        for task in part.tasks:
            meanings.setdefault(task.name, set()).add(task.meaning())
    return [
        {
            task.name: task.name if len(meanings[task.name]) == 1 else qualified_name(task.name, prefix)
            for task in part.tasks
        }
        for part, prefix in zip(parts, prefixes, strict=True)
    ]


def qualified_name(task: str, dataset: str) -> str:
    """What a task is called where another data set means something else by its name; a safe folder name."""
    return f"{task}_{re.sub(r'[^A-Za-z0-9-]+', '_', dataset)}"


def _unique_names(parts: Sequence[DenseDataset]) -> list[str]:
    names = [part.name for part in parts]
    shared = {name for name, count in Counter(names).items() if count > 1}
    # The folder above tells namesakes apart whatever their order; a number where that fails.
    names = [
        f"{Path(root).resolve().parent.name}-{part.name}"
        if part.name in shared and (root := getattr(part, "root", None)) is not None
        else part.name
        for part in parts
    ]
    unique: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in unique or (candidate != name and candidate in names):
            candidate, number = f"{name}-{number}", number + 1
        unique.append(candidate)
    return unique
