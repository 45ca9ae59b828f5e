"""Partly labelled folders: `<split>/images/<name>.jpg` and, where there is a label, `<split>/<task>/<name>.png`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.base import StoredFile
from diffusionmtl.data.description import IMAGES, dataset_tasks, write_dataset_yaml
from diffusionmtl.data.sizes import Sizes
from diffusionmtl.data.stored import StoredDataset
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task

__all__ = [
    "PREDICTED",
    "FolderDataset",
    "dataset_splits",
    "dataset_tasks",
    "label_files",
    "plain_files",
    "write_dataset_yaml",
]

PREDICTED = "predicted"
"""Beside `images`: labels that a network predicted, in folders of the tasks (`data.completed`)."""

_SAFE_SPLIT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


class FolderDataset(StoredDataset):
    """One split of a partly labelled folder.

    An image's name is its path below `images` without suffix. Everything but files is read lazily: opening looks at
    names only.

    Attributes:
        root: the folder that holds `dataset.yaml`.
        split: the folder below it.
    """

    def __init__(self, root: Path, split: str, tasks: tuple[Task, ...], max_pixels: int = files.MAX_PIXELS) -> None:
        """Look for the files; `open` reads the tasks from the folder."""
        self.root, self.split, self.tasks = root, split, tasks
        self.name = root.resolve().name
        self._folder = root / split
        self._max_pixels = max_pixels
        self._images = _images(self._folder / IMAGES, root)
        self.names = tuple(self._images)
        self._found = {task.name: label_files(self._folder / task.name, task, root) for task in tasks}
        self._labels = {
            task: {n: s for n, s in found.items() if n in self._images} for task, found in self._found.items()
        }
        self._sizes = Sizes(len(self.names))

    @classmethod
    def open(cls, root: Path, split: str, max_pixels: int = files.MAX_PIXELS) -> "FolderDataset":
        """Open `<root>/<split>`; images of more than `max_pixels` pixels will be refused when they are read.

        Raises:
            UserError: `dataset.yaml` or the split is missing or wrong, it has no image, two images share a name, or a
                link leads out of `root`.
        """
        root = Path(root)
        tasks = dataset_tasks(root)
        if not _SAFE_SPLIT.fullmatch(split) or not (root / split / IMAGES).is_dir():
            splits = dataset_splits(root)
            known = f"it has: {', '.join(splits)}" if splits else "it has none"
            cure = (
                f"Move some images that nothing was trained on, and their labels, to {split}"
                if split == "val"
                else "Rename the folder"
            )
            raise UserError(
                f"{root}: no split '{split}' (a folder {split}/{IMAGES}); {known}.{nearest(split, splits)} {cure}, or "
                "name another split where a command has --split"
            )
        return cls(root, split, tasks, max_pixels)

    def annotated(self, index: int) -> frozenset[str]:
        """The tasks that have a file for this image."""
        return frozenset(task for task, labels in self._labels.items() if self.names[index] in labels)

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, upright."""
        pixels = files.read_image(self.image_path(index), self._max_pixels)
        self._sizes.note(index, pixels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def stored_label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its file."""
        kind = next(t for t in self.tasks if t.name == task)
        return kind.read(self.label_path(index, task), self._max_pixels)

    def size(self, index: int) -> tuple[int, int]:
        """H, W of an image, upright."""
        return self._sizes.of(index, lambda: files.image_size(self.image_path(index), self._max_pixels))

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        name = self.names[index]
        return self._folder / IMAGES / (name + self._images[name])

    def label_path(self, index: int, task: str) -> Path:
        """The file of a label; a KeyError where there is none."""
        name = self.names[index]
        return self._folder / task / (name + self._labels[task][name])

    def where(self, index: int, task: str | None) -> str:
        """The path of the file."""
        return str(self.path(index, task))

    def path(self, index: int, task: str | None) -> Path:
        """The file."""
        return self.image_path(index) if task is None else self.label_path(index, task)

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The file."""
        return StoredFile.at(self.path(index, task))

    def orphans(self) -> list[Path]:
        """Label files without an image of their name: most likely misnamed."""
        return [
            self._folder / task / (name + suffix)
            for task, found in self._found.items()
            for name, suffix in found.items()
            if name not in self._images
        ]

    def unusable_labels(self) -> list[Path]:
        """Files named as an image in a task's folder, with a suffix that the task cannot be read from."""
        return [
            self._folder / task.name / (name + suffix)
            for task in self.tasks
            for name, suffix in plain_files(self._folder / task.name, self.root)
            if name in self._images and name not in self._labels[task.name]
        ]

    def instead_of_labels(self, task: str) -> str:
        """Why labels that may seem to be there are none, with what to do; empty if nothing looks like them."""
        folder = self._folder / task
        kind = next(t for t in self.tasks if t.name == task)
        lost = next(plain_files(folder, self.root), None)
        if lost is None:
            others = self.undeclared_folders()
            return f"{others[0]} is no task of dataset.yaml: rename the folder or the task" if others else ""
        path = folder / "".join(lost)
        if lost[0] in self._images:
            jpeg = ", and a JPEG cannot hold labels" if path.suffix.lower() in (".jpg", ".jpeg") else ""
            return f"{path} is not read, labels of this kind are {', '.join(kind.suffixes)}{jpeg}: export it anew"
        return f"{path} has no image {self._folder.name}/{IMAGES}/{lost[0]}: give a label the name of its image"

    def undeclared_folders(self) -> list[Path]:
        """Folders beside `images` that `dataset.yaml` does not name."""
        known = {task.name for task in self.tasks} | {IMAGES, PREDICTED}
        return sorted(
            p for p in self._folder.iterdir() if p.is_dir() and p.name not in known and not p.name.startswith(".")
        )


def dataset_splits(root: Path) -> tuple[str, ...]:
    """The splits of a folder: those of its folders that have `images`."""
    return tuple(sorted(p.parent.name for p in root.glob(f"*/{IMAGES}") if p.is_dir()))


def _images(folder: Path, root: Path) -> dict[str, str]:
    """Name -> suffix of every image, sorted by name."""
    found: dict[str, str] = {}
    for name, suffix in plain_files(folder, root):
        if suffix.lower() not in files.IMAGE_SUFFIXES:
            continue
        if name in found:
            raise UserError(
                f"{folder}: two images are named '{name}': {name}{found[name]} and {name}{suffix}; "
                "labels could not tell them apart, rename or remove one"
            )
        found[name] = suffix
    if not found:
        raise UserError(f"{folder}: no images in it; put {', '.join(s[1:] for s in files.IMAGE_SUFFIXES)} files there")
    return dict(sorted(found.items()))


def label_files(folder: Path, task: Task, root: Path) -> dict[str, str]:
    """Name -> suffix of every label; of several for one name the suffix that the task names first."""
    rank = {suffix: i for i, suffix in enumerate(task.suffixes)}
    found: dict[str, str] = {}
    for name, suffix in plain_files(folder, root):
        if suffix.lower() in rank and (name not in found or rank[suffix.lower()] < rank[found[name].lower()]):
            found[name] = suffix
    return found


def plain_files(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(name, suffix) of every plain file below `folder`, sorted; nothing where there is no such folder.

    Hidden ones are left out. A name is the path below `folder` without suffix.

    Raises:
        UserError: `folder` is a file; a link leads out of `root` or to nothing; a name cannot be printed.
    """
    inside = root.resolve()
    real = folder.resolve()
    _check_inside(folder, real, inside)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, a folder of labels was expected; move it away")
    if folder.is_dir():
        yield from _walk(folder, "", inside, frozenset([real]))


def _walk(folder: Path, prefix: str, inside: Path, above: frozenset[Path]) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        ordered = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in ordered:
        if not entry.name.isprintable():
            raise UserError(f"{entry.path}: the name holds a control character or is no text in UTF-8; rename it")
        if entry.is_symlink():
            _check_inside(Path(entry.path), Path(entry.path).resolve(), inside)
        if entry.is_dir():
            real = Path(entry.path).resolve()
            if real not in above:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", inside, above | {real})
        elif entry.is_file():
            stem, suffix = os.path.splitext(entry.name)
            yield prefix + stem, suffix
        elif entry.is_symlink():
            raise UserError(f"{entry.path}: a link to nothing; mend or remove it")


def _check_inside(path: Path, real: Path, inside: Path) -> None:
    if not real.is_relative_to(inside):
        raise UserError(
            f"{path}: a link that leads out of the data set to {real}; copy what it points to into {inside}"
        )
