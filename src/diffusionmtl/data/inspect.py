"""What a data set holds, and what looks wrong about it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.completed import predicted_counts
from diffusionmtl.data.figures import Figures
from diffusionmtl.data.folder import FolderDataset
from diffusionmtl.data.sheet import contact_sheet, spread_evenly
from diffusionmtl.data.stored import StoredDataset
from diffusionmtl.errors import UserError, some
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task

__all__ = ["InspectReport", "SplitFindings", "TaskFindings", "contact_sheet", "inspect"]

_SHOWN_PROBLEMS = 20
_FAULTS_APART = 5
_NUMBER = re.compile(r"\d[\d., ]*")
_SHARES = ("class", "probability")


@dataclass(frozen=True)
class TaskFindings:
    """One task in one split.

    Attributes:
        labelled: images that have a label.
        read: labels that were opened and could be read.
        known: share of the pixels of those where the label means something.
        figures: `Task.describe` of them together: shares of classes, or smallest min, largest max and means weighted by
            pixels.
    """

    name: str
    kind: str
    unit: str
    labelled: int
    read: int
    known: float
    figures: dict[str, float]


@dataclass(frozen=True)
class SplitFindings:
    """One split.

    Attributes:
        sizes: how many of the images read have which size, "HxW", most frequent first.
        warnings: what may be meant but probably is not.
        problems: what training would refuse.
        alike: the same in few words: a line for all files that have one problem, with their number and the first names.
        predicted: per task, how many images have a predicted label and none of a person.
    """

    split: str
    images: int
    read: int
    sizes: dict[str, int]
    tasks: tuple[TaskFindings, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    alike: tuple[str, ...]
    predicted: dict[str, int]


@dataclass(frozen=True)
class InspectReport:
    """What was found in a data set."""

    name: str
    splits: tuple[SplitFindings, ...]

    @property
    def sound(self) -> bool:
        """Nothing was found that training would refuse."""
        return not any(split.problems for split in self.splits)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, for JSON."""
        return {**asdict(self), "sound": self.sound}

    def text(self) -> str:
        """Tables and lists to be printed."""
        parts = [self.name, "", *_coverage(self.splits)]
        for split in self.splits:
            parts += ["", f"{split.split}: values of {split.read} of {split.images} images", *_values(split)]
            if split.predicted:
                counts = ", ".join(f"{task} {count}" for task, count in split.predicted.items())
                parts.append(f"  predicted labels, seen with --labels completed alone: {counts}")
            for title, said in (("warning", split.warnings), ("problem", split.alike)):
                shown = [f"  {title}: {line}" for line in said[:_SHOWN_PROBLEMS]]
                more = len(said) - len(shown)
                parts += shown + ([f"  and {more} more {title}s"] if more else [])
        parts += [
            "",
            "nothing that training would refuse" if self.sound else "training would refuse this: see problems",
        ]
        return "\n".join(parts)


def inspect(
    datasets: Mapping[str, DenseDataset], most: int | None = 200, progress: Callable[[int, int], None] | None = None
) -> InspectReport:
    """Look at the splits of one data set. What cannot be read is collected, not raised.

    Args:
        most: images per split, and labels per task, to open, evenly spread; None opens all. Coverage counts all.
        progress: called with (done, all) files.
    """
    picked = {split: _picked(dataset, most) for split, dataset in datasets.items()}
    total = sum(len(images) + sum(map(len, labels.values())) for images, labels in picked.values())
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    splits = tuple(_Look(split, datasets[split], tick).findings(*chosen) for split, chosen in picked.items())
    return InspectReport(next(iter(datasets.values())).name, splits)


def _picked(dataset: DenseDataset, most: int | None) -> tuple[Sequence[int], dict[str, Sequence[int]]]:
    labelled: dict[str, list[int]] = {task.name: [] for task in dataset.tasks}
    for index in range(len(dataset)):
        for task in dataset.annotated(index):
            labelled[task].append(index)
    return spread_evenly(range(len(dataset)), most), {t: spread_evenly(found, most) for t, found in labelled.items()}


@dataclass(frozen=True)
class _Problem:
    """Of one file, or of none.

    Attributes:
        place: the file; empty if the fault says everything.
        fault: what is wrong, with the cure.
        kind: equal where the faults of two files are the same.
        name: of the image.
    """

    place: str
    fault: str
    kind: str
    name: str


def _alike(problems: Iterable[_Problem]) -> Iterator[str]:
    """A line for each fault, in the order in which they were first met.

    Where many files differ in the numbers of a fault alone (how far, how large) they share a line too. Few stay apart,
    for each class index without a name is worth a line.
    """
    exact: dict[str, list[_Problem]] = {}
    for problem in problems:
        exact.setdefault(problem.kind, []).append(problem)
    faults = Counter(_NUMBER.sub("", kind) for kind in exact)
    together: dict[str, list[_Problem]] = {}
    for kind, found in exact.items():
        shape = _NUMBER.sub("", kind)
        alike = faults[shape] > _FAULTS_APART and found[0].place != ""
        together.setdefault(shape if alike else kind, []).extend(found)
    for first, *others in together.values():
        names = ", ".join(problem.name for problem in others[:2]) + (", ..." if len(others) > 2 else "")
        more = f" and {len(others)} more ({names})" if others else ""
        numbers = " (the numbers of the first; others differ)" if any(p.kind != first.kind for p in others) else ""
        yield f"{first.place}{more}: {first.fault}{numbers}" if first.place else f"{first.fault}{more}{numbers}"


class _Look:
    """One split being looked at: what was noticed so far."""

    def __init__(self, split: str, dataset: DenseDataset, tick: Callable[[], None]) -> None:
        self._split, self._dataset, self._tick = split, dataset, tick
        self._warnings: list[str] = []
        self._problems: dict[str, _Problem] = {}  # each line once: a broken image is met again with each of its labels

    def findings(self, images: Sequence[int], labels: Mapping[str, Sequence[int]]) -> SplitFindings:
        """Read what was picked and say what was found."""
        sizes = Counter("x".join(map(str, size)) for size in self._image_sizes(images))
        covered = [self._dataset.annotated(index) for index in range(len(self._dataset))]
        tasks = tuple(
            self._task(task, sum(task.name in have for have in covered), labels[task.name])
            for task in self._dataset.tasks
        )
        bare = [name for name, have in zip(self._dataset.names, covered, strict=True) if not have]
        self._note(bare, "images without any label")
        if isinstance(self._dataset, FolderDataset):
            self._names(self._dataset)
        return SplitFindings(
            self._split,
            len(self._dataset),
            len(images),
            dict(sizes.most_common()),
            tasks,
            tuple(self._warnings),
            tuple(self._problems),
            tuple(_alike(self._problems.values())),
            predicted_counts(self._dataset) if isinstance(self._dataset, FolderDataset) else {},
        )

    def _image_sizes(self, indices: Iterable[int]) -> Iterator[tuple[int, ...]]:
        for index in indices:
            try:
                yield tuple(self._dataset.image(index).shape[1:])
            except UserError as error:
                self._refused(error, index, None)
            self._tick()

    def _task(self, task: Task, labelled: int, indices: Sequence[int]) -> TaskFindings:
        together = Figures(task)
        pixels = read = 0
        empty: list[str] = []
        resized: list[str] = []
        for index in indices:
            try:
                value, valid, whole = self._label(index, task.name)
            except UserError as error:
                self._refused(error, index, task.name)
                self._tick()
                continue
            name, mask = self._dataset.names[index], valid.as_subclass(Tensor)[0]
            read, pixels = read + 1, pixels + mask.numel()
            together.add(task.describe(value.as_subclass(Tensor), mask), int(mask.sum()))
            if not bool(mask.any()) and task.name in self._dataset.informative(index):
                empty.append(name)
            resized += [] if whole else [name]
            self._tick()
        figures = together.summary()
        if read and not together.weight:
            which = some(empty or self._dataset.names)
            said = f"task '{task.name}': all {read} labels read are unknown everywhere: {which}"
            self._problems.setdefault(said, _Problem("", said, said, ""))
            empty = []
        self._doubts(task, labelled, empty, resized, figures)
        known = together.weight / max(pixels, 1)
        return TaskFindings(task.name, task.kind, task.unit, labelled, read, known, figures)

    def _label(self, index: int, task: str) -> tuple[LabelMap, ValidMap, bool]:
        """A label as it was stored, and whether that is at the size of its image."""
        if not isinstance(self._dataset, StoredDataset):
            return *self._dataset.label(index, task), True
        value, valid = self._dataset.stored_label(index, task)
        self._dataset.fitted(index, task, value, valid)
        return value, valid, tuple(value.shape[-2:]) == self._dataset.size(index)

    def _refused(self, error: UserError, index: int, task: str | None) -> None:
        said, image = str(error), self._place(index, None)
        place = next((p for p in (self._place(index, task), image) if p and said.startswith(f"{p}: ")), "")
        fault = said.removeprefix(f"{place}: ") if place else said
        # The fault of a label may name its image, which makes it no other fault.
        kind = fault.replace(image.rsplit("/", 1)[-1], "") if place else said
        self._problems.setdefault(said, _Problem(place, fault, kind, self._dataset.names[index]))

    def _place(self, index: int, task: str | None) -> str:
        if isinstance(self._dataset, StoredDataset):
            return self._dataset.where(index, task)
        return str(self._dataset.path(index, task) or "")

    def _doubts(
        self, task: Task, labelled: int, empty: list[str], resized: list[str], figures: dict[str, float]
    ) -> None:
        if not labelled:
            self._note([task.suffixes[0]], f"task '{task.name}' has no label at all in this split; expected files")
        self._note(empty, f"task '{task.name}': labels that are unknown everywhere")
        self._note(resized, f"task '{task.name}': labels of another size than their image, to be resized")
        self._warnings += [f"task '{task.name}': {doubt}" for doubt in task.doubts(figures)]

    def _names(self, folder: FolderDataset) -> None:
        relative = [str(path.relative_to(folder.root)) for path in folder.orphans()]
        self._note(relative, "label files without an image of their name")
        relative = [str(path.relative_to(folder.root)) for path in folder.unusable_labels()]
        self._note(relative, "files that are not read: their task has other suffixes")
        relative = [str(path.relative_to(folder.root)) for path in folder.undeclared_folders()]
        self._note(relative, "folders that dataset.yaml does not name")

    def _note(self, which: Sequence[str], what: str) -> None:
        if which:
            self._warnings.append(f"{what}: {some(which)}")


def _coverage(splits: Sequence[SplitFindings]) -> list[str]:
    tasks = [task.name for task in splits[0].tasks] if splits else []
    rows = [["split", "images", "sizes (HxW)", *tasks]]
    for split in splits:
        shares = [f"{task.labelled} ({100 * task.labelled / max(split.images, 1):.0f}%)" for task in split.tasks]
        rows.append([split.split, str(split.images), _sizes(split.sizes), *shares])
    return _table(rows)


def _sizes(sizes: Mapping[str, int]) -> str:
    first = next(iter(sizes), "")
    return first if len(sizes) < 2 else f"{first} and {len(sizes) - 1} more"


def _values(split: SplitFindings) -> list[str]:
    rows = [["task", "kind", "read", "known", "values"]]
    for task in split.tasks:
        if task.unit in _SHARES:
            ordered = sorted(task.figures.items(), key=lambda item: -item[1])
            said = ", ".join(f"{name} {_percent(share)}" for name, share in ordered)
        else:
            said = ", ".join(f"{name} {value:.4g}" for name, value in task.figures.items())
            said = f"{said} ({task.unit})" if said else ""
        rows.append([task.name, task.kind, str(task.read), _percent(task.known), said or "nothing"])
    return _table(rows)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
