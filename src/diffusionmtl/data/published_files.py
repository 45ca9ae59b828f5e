"""What the readers of the published benchmarks share: every image has every label, one file each, and errors say more.

A benchmark's files are read where they lie and nothing is written beside them. A missing file is an error, not a
missing label: a table cell computed on what happens to be there would be compared with one that is not.
"""

import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.base import DenseDataset, StoredFile
from diffusionmtl.data.sizes import Sizes
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import SemanticSegmentation, Task

SPLITS = ("train", "val")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")
_LIST_BYTES = 10_000_000
_SHOWN = 8


class PublishedDataset(DenseDataset):
    """Images with a label for every task.

    Attributes:
        root: the folder of the benchmark.
        title: what it is called in messages, and its layout.
    """

    root: Path
    title: str

    def __init__(self, root: Path, tasks: Sequence[Task], names: Sequence[str], max_pixels: int) -> None:
        self.root = root
        self.tasks = tuple(tasks)
        self.names = tuple(names)
        self._max_pixels = max_pixels
        self._sizes = Sizes(len(self.names))

    def annotated(self, index: int) -> frozenset[str]:
        """Every task."""
        return frozenset(task.name for task in self.tasks)

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image."""
        pixels = self._pixels(self.path(index, None))
        self._sizes.note(index, pixels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label; one of another size than its image is resized by its own rule.

        Raises:
            UserError: the file cannot be read, holds what the task cannot have, or shows another aspect ratio.
        """
        kind = next(t for t in self.tasks if t.name == task)
        label, valid = self._label(index, kind)
        height, width = self._sizes.of(index, lambda: self._size(self.path(index, None)))
        stored_height, stored_width = label.shape[-2:]
        if (stored_height, stored_width) == (height, width):
            return label, valid
        # Both are whole images rounded to pixels, so they may differ by one on either side.
        if abs(stored_width * height - stored_height * width) > stored_width + stored_height + width + height:
            raise UserError(
                f"{self.path(index, task)}: task '{task}': the label is {stored_height}x{stored_width} and its image "
                f"{height}x{width} (height x width), another aspect ratio; take both from the same release"
            )
        return label.resized(height, width), valid.resized(height, width)

    @abstractmethod
    def path(self, index: int, task: str | None) -> Path:
        """The file of a label, or of the image if `task` is None."""

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The file, if it is a picture or what the task's own reader takes."""
        path = self.path(index, task)
        as_it_is = path.suffix.lower() in files.IMAGE_SUFFIXES if task is None else self._read_as_it_is(task)
        return StoredFile.at(path) if as_it_is else None

    def _read_as_it_is(self, task: str) -> bool:
        """Whether `_label` reads the file of a label by the task's own reader and changes nothing."""
        return False

    @abstractmethod
    def _label(self, index: int, kind: Task) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its file."""

    def _pixels(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        return files.read_image(path, self._max_pixels)

    def _size(self, path: Path) -> tuple[int, int]:
        return files.image_size(path, self._max_pixels)

    def check_complete(self, hint: str) -> None:
        """Refuse a data set of which a file is not there; nothing is opened.

        Args:
            hint: what to do about it, the end of the message.

        Raises:
            UserError: names the first missing file and says how many of that kind there are.
        """
        listings: dict[Path, frozenset[str]] = {}
        for task in (None, *(task.name for task in self.tasks)):
            missing = [path for i in range(len(self)) if not _is_there(path := self.path(i, task), listings)]
            if missing:
                what = "image" if task is None else f"label of task '{task}'"
                raise UserError(
                    f"{missing[0]}: no such file, the {what} of an image of {self.title} ({len(missing)} of "
                    f"{len(self)} are missing); {hint}"
                )


def _is_there(path: Path, listings: dict[Path, frozenset[str]]) -> bool:
    if path.parent not in listings:
        listings[path.parent] = frozenset(os.listdir(path.parent)) if path.parent.is_dir() else frozenset()
    return path.name in listings[path.parent]


def check_split(title: str, split: str) -> None:
    """Refuse a split that the benchmarks do not have.

    Raises:
        UserError: `split` is neither train nor val.
    """
    if split not in SPLITS:
        raise UserError(f"{title}: no split '{split}'; it has {' and '.join(SPLITS)}")


def located(root: Path, names: Sequence[str]) -> Path:
    """`root` itself, or the folder in it that has one of the names that archives of the benchmark unpack to."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def not_here(root: Path, title: str, expected: str, publisher: str) -> NoReturn:
    """Say what a benchmark's folder should hold, what it holds, and who publishes the data.

    Raises:
        UserError: always.
    """
    if not root.is_dir():
        found = "no such folder" if not root.exists() else "a file"
    else:
        entries = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
        more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
        found = ", ".join(entries[:_SHOWN]) + more if entries else "an empty folder"
    raise UserError(f"{root}: {title} expected {expected}; found {found}. Published by {publisher}")


def read_names(path: Path) -> tuple[str, ...]:
    """The image names that a list file of a split holds, one a line.

    Raises:
        UserError: the file is missing, empty, or holds what is no image name, or one twice.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; it lists the images of the split, one name a line")
    try:
        lines = files.read_bytes(path, _LIST_BYTES, "a list of images").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not readable as a list of images ({type(error).__name__})") from None
    seen: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if not _IDENTIFIER.fullmatch(name):
            raise UserError(f"{path}, line {number}: {name[:80]!r} is no image name; one name a line, no suffix")
        if name in seen:
            raise UserError(f"{path}, line {number}: image '{name}' stands twice; remove one")
        seen[name] = None
    if not seen:
        raise UserError(f"{path}: lists no image")
    return tuple(seen)


def class_label(
    path: Path, task: Task, index: Shaped[np.ndarray, "h w"], unknown: Bool[np.ndarray, "h w"]
) -> tuple[LabelMap, ValidMap]:
    """Class indices as the label of a segmentation.

    Raises:
        UserError: an index that is neither unknown nor a class of the task.
    """
    assert isinstance(task, SemanticSegmentation)
    wrong = ~unknown & ((index < 0) | (index >= task.channels))
    if wrong.any():
        values = ", ".join(map(str, np.unique(index[wrong])[:5]))
        raise UserError(
            f"{path}: value {values} is no class of task '{task.name}' (0 to {task.channels - 1}); "
            "another version of the data?"
        )
    label = torch.from_numpy(np.where(unknown, 0, index)).to(task.label_dtype)[None]
    return label.as_subclass(task.label_type), torch.from_numpy(~unknown)[None].as_subclass(ValidMap)


def chosen_tasks(tasks: Sequence[Task], names: Sequence[str] | None) -> tuple[Task, ...]:
    """The tasks of these names; all if there are none, or one that no task has."""
    if not names or not set(names) <= {task.name for task in tasks}:
        return tuple(tasks)
    return tuple(task for task in tasks if task.name in names)


def look_up(index: Shaped[np.ndarray, "h w"], table: Mapping[int, int]) -> Shaped[np.ndarray, "h w"]:
    """Every number replaced by what the table says; those that it does not name by -1."""
    rows = np.full(max(table) + 1, -1, dtype=np.int64)
    rows[list(table)] = list(table.values())
    inside = (index >= 0) & (index < len(rows))
    return np.where(inside, rows[np.where(inside, index, 0)], -1)
