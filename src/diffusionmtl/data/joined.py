"""Several data sets as one: all their tasks, each image labelled where its own data set labels it."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.checks import check_tasks_labelled
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task


class JoinedDataset(DenseDataset):
    """The union of data sets. Image names get the name of their data set in front: `people/0001`.

    Tasks of one name are one task and must have equal settings.

    Attributes:
        parts: the data sets, in order.
    """

    def __init__(self, parts: Sequence[DenseDataset]) -> None:
        """Join `parts`.

        Raises:
            UserError: two of them mean different things by one task name.
        """
        if not parts:
            raise ValueError("nothing to join")
        self.parts = tuple(parts)
        prefixes = _unique_names(self.parts)
        self.name = "+".join(prefixes)
        self.tasks = _united_tasks(self.parts, prefixes)
        self.names = tuple(f"{p}/{name}" for p, part in zip(prefixes, self.parts, strict=True) for name in part.names)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def located(self, index: int) -> tuple[DenseDataset, int]:
        """The data set that an image comes from, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect_right(self._ends, index)
        return self.parts[at], index - (self._ends[at - 1] if at else 0)

    def annotated(self, index: int) -> frozenset[str]:
        """What its own data set says."""
        part, i = self.located(index)
        return part.annotated(i)

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, from its own data set."""
        part, i = self.located(index)
        return part.image(i)

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """The label, from its own data set."""
        part, i = self.located(index)
        return part.label(i, task)

    def check_tasks_labelled(self) -> None:
        """Refuse a task of which no image of any part has a label.

        Raises:
            UserError: names the task.
        """
        check_tasks_labelled(self)


def _united_tasks(parts: Sequence[DenseDataset], prefixes: Sequence[str]) -> tuple[Task, ...]:
    united: dict[str, tuple[Task, str]] = {}
    for part, prefix in zip(parts, prefixes, strict=True):
        for task in part.tasks:
            first, where = united.setdefault(task.name, (task, prefix))
            if first != task:
                raise UserError(
                    f"task '{task.name}' means different things in data sets '{where}' and '{prefix}' "
                    f"({_difference(first, task)}); make the two dataset.yaml equal, or rename the task and its "
                    "folders in one of them"
                )
    return tuple(task for task, _ in united.values())


def _difference(one: Task, other: Task) -> str:
    mine, theirs = one.settings(), other.settings()
    if mine["kind"] != theirs["kind"]:
        return f"kind: {mine['kind']} and {theirs['kind']}"
    key = next(k for k in [*mine, *theirs] if mine.get(k) != theirs.get(k))
    return f"{key}: {_short(getattr(one, key))} and {_short(getattr(other, key))}"


def _short(value: object) -> str:
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


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
