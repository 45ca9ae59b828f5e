"""Where the files of a completed data set lie, and how they get there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.commands.finished import digest, link
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.description import IMAGES
from diffusionmtl.data.folder import PREDICTED
from diffusionmtl.inference.complete import Answer
from diffusionmtl.tasks import Task

CONFIDENCE = "confidence"
SPLIT = "train"


@dataclass(frozen=True)
class Place:
    """The folder of a completed data set, for the images of one split of another one."""

    out: Path
    dataset: DenseDataset
    split: str = SPLIT

    def given(self, index: int, task: str | None) -> Path:
        """Put the image (`task` is None) or the label of a person there, the same bytes if it is a file; its path."""
        stem = self.out / self.split / (task or IMAGES) / self.dataset.names[index]
        source = self.dataset.path(index, task)
        if source is not None:
            to = stem.with_name(stem.name + source.suffix)
            link(source.resolve(), to)
            return to
        stored = self.dataset.stored(index, task)
        if stored is not None:
            to = stem.with_name(stem.name + stored.suffix)
            files.write_bytes_atomically(to, stored.data)
            return to
        if task is not None:
            label, valid = (x.as_subclass(Tensor) for x in self.dataset.label(index, task))
            return self._task(task).write(stem, label, valid[0])[0]
        to = stem.with_name(f"{stem.name}.png")
        files.write_picture(to, self.dataset.image(index).permute(1, 2, 0).numpy())
        return to

    def answer(self, index: int, task: str, answer: Answer, level: int | None) -> list[Path]:
        """Write how sure an answer is, and the answer where that is enough; no label of which nothing is left."""
        path = self.confidence(index, task)
        stem = self.out / self.split / PREDICTED / task / self.dataset.names[index]
        for suffix in self._task(task).suffixes:  # what an earlier call wrote for another image of this name
            stem.with_name(stem.name + suffix).unlink(missing_ok=True)
        files.write_picture(path, answer.level.numpy().astype(np.uint16))
        if level is None or not bool(answer.kept(level).any()):
            return [path]
        return [path, *self._task(task).with_unknown().write(stem, answer.value, answer.kept(level))]

    def confidence(self, index: int, task: str) -> Path:
        """The path of a confidence map."""
        stem = self.out / CONFIDENCE / task / self.dataset.names[index]
        return stem.with_name(f"{stem.name}.png")

    def kept(self, index: int, task: str, level: int | None) -> float:
        """The share of the pixels of a written confidence map that is kept."""
        return 0.0 if level is None else float((read_levels(self.confidence(index, task)) >= level).mean())

    def _task(self, name: str) -> Task:
        return next(task for task in self.dataset.tasks if task.name == name)


def read_levels(path: Path) -> np.ndarray:
    """The levels [H W] of a confidence map."""
    return files.read_label_picture(path).astype(np.int64)


def content_of(dataset: DenseDataset, index: int, tasks: Iterable[str]) -> str:
    """Differs where the image or one of its labels differs."""

    def part(task: str | None) -> object:
        path = dataset.path(index, task)
        if path is not None:
            return path
        stored = dataset.stored(index, task)
        if stored is not None:
            return stored.data
        maps = (dataset.image(index),) if task is None else dataset.label(index, task)
        return [x.as_subclass(Tensor).numpy().tobytes() for x in maps]

    return digest(*map(part, (None, *sorted(tasks))))
