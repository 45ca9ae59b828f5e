"""Shards: partly labelled folders as a few large tar files, in the form of WebDataset.

```
dataset.yaml
train/shard-000000.tar
    0001.jpg            the image, jpg, png or webp
    0001.semseg.png     as the file of a label; an absent one is a missing label
    0001.depth.npy
```

What stands before the first dot is the key of a sample. An image's name that has dots gets them as `%2E`, and `%` as
`%25`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.base import StoredFile
from diffusionmtl.data.description import dataset_tasks
from diffusionmtl.data.members import Member, members, name_fault
from diffusionmtl.data.sizes import Sizes
from diffusionmtl.data.stored import StoredDataset
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Task

_BYTES_PER_PIXEL = 32
_HEADER_BYTES = 1 << 20
_IMAGE = ""

Sample = dict[str, Member]


class ShardsDataset(StoredDataset):
    """One split of a folder of shards, in the order of the names, as a partly labelled folder would be.

    Members of shards that are neither an image nor a file of a task of `dataset.yaml` are not looked at.

    Attributes:
        root: the folder that holds `dataset.yaml`.
        split: the folder below it.
    """

    def __init__(self, root: Path, split: str, tasks: tuple[Task, ...], max_pixels: int = files.MAX_PIXELS) -> None:
        """Look for what is in the shards; `open` reads the tasks from the folder."""
        self.root, self.split, self.tasks = root, split, tasks
        self.name = root.resolve().name
        self._max_pixels = max_pixels
        self._limit = max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES
        self._samples = _samples(_checked_shards(root, split), tasks)
        self.names = tuple(self._samples)
        self._sizes = Sizes(len(self.names))

    @classmethod
    def open(cls, root: Path, split: str, max_pixels: int = files.MAX_PIXELS) -> "ShardsDataset":
        """Open `<root>/<split>/*.tar`; images of more than `max_pixels` pixels will be refused when they are read.

        Raises:
            UserError: `dataset.yaml` or the split is missing, or a shard is damaged or holds what it must not.
        """
        tasks = dataset_tasks(root)
        if split not in shard_splits(root):
            known = ", ".join(shard_splits(root))
            raise UserError(
                f"{root}: no split '{split}' (a folder of .tar files); it has: {known}."
                f"{nearest(split, shard_splits(root))}"
            )
        return cls(root, split, tasks, max_pixels)

    def annotated(self, index: int) -> frozenset[str]:
        """The tasks that have a file for this image."""
        return frozenset(self._samples[self.names[index]]) - {_IMAGE}

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The image, upright."""
        with self._member(index, None).unpacked(self._limit) as path:
            pixels = files.read_image(path, self._max_pixels)
        self._sizes.note(index, pixels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def stored_label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its file."""
        kind = next(t for t in self.tasks if t.name == task)
        with self._member(index, task).unpacked(self._limit) as path:
            return kind.read(path, self._max_pixels)

    def size(self, index: int) -> tuple[int, int]:
        """H, W of an image, upright."""
        return self._sizes.of(index, lambda: self._image_size(index))

    def _image_size(self, index: int) -> tuple[int, int]:
        with self._member(index, None).unpacked(self._limit) as path:
            return files.image_size(path, self._max_pixels)

    def where(self, index: int, task: str | None) -> str:
        """The shard and the member."""
        return str(self._member(index, task))

    def stored(self, index: int, task: str | None) -> StoredFile | None:
        """The bytes of a member."""
        member = self._member(index, task)
        return StoredFile(Path(member.name).suffix, member.read(self._limit))

    def _member(self, index: int, task: str | None) -> Member:
        return self._samples[self.names[index]][_IMAGE if task is None else task]


def shard_splits(root: Path) -> tuple[str, ...]:
    """The splits that are kept as shards: folders of `.tar` files."""
    return tuple(sorted({p.parent.name for p in root.glob("*/*.tar") if not p.name.startswith(".")}))


def shard_files(root: Path, split: str) -> list[Path]:
    """The shards of a split, in order."""
    return sorted(p for p in (root / split).glob("*.tar") if p.is_file() and not p.name.startswith("."))


def _checked_shards(root: Path, split: str) -> list[Path]:
    inside = root.resolve()
    found = shard_files(root, split)
    for shard in found:
        if not shard.resolve().is_relative_to(inside):
            raise UserError(f"{shard}: a link that leads out of the data set; copy what it points to into {inside}")
    return found


def key_of(name: str) -> str:
    """An image's name as the key of a sample, which ends at its first dot."""
    return name.replace("%", "%25").replace(".", "%2E")


def name_of(key: str) -> str:
    """The reverse of `key_of`."""
    return key.replace("%2E", ".").replace("%25", "%")


def _samples(shards: Sequence[Path], tasks: tuple[Task, ...]) -> dict[str, Sample]:
    by_name = {task.name: task for task in tasks}
    found: dict[str, Sample] = {}
    for shard in shards:
        for member in members(shard):
            name, part = _parsed(member)
            task, _, suffix = part.partition(".")
            if f".{part.lower()}" in files.IMAGE_SUFFIXES:
                _put(found.setdefault(name, {}), _IMAGE, member)
            elif task in by_name and f".{suffix.lower()}" in by_name[task].suffixes:
                _put(found.setdefault(name, {}), task, member)
    for name, sample in found.items():
        if _IMAGE not in sample:
            raise UserError(f"{next(iter(sample.values()))}: a label without an image {key_of(name)}.jpg or .png")
    if not found:
        raise UserError(f"{', '.join(map(str, shards))}: no images in it; members are named KEY.jpg, KEY.TASK.png")
    return dict(sorted(found.items()))


def _parsed(member: Member) -> tuple[str, str]:
    """The image's name, and what follows its key's dot."""
    folder, slash, base = member.name.rpartition("/")
    key, _, part = base.partition(".")
    name = name_of(f"{folder}{slash}{key}")
    if fault := name_fault(name):
        raise UserError(f"{member.tar}: the name {member.name[:120]!r} {fault}; rename it")
    return name, part


def _put(sample: Sample, part: str, member: Member) -> None:
    if part in sample:
        what = f"labels of task '{part}'" if part else "images"
        raise UserError(f"{member}: there are two {what} of one key, the other is {sample[part]}; remove one")
    sample[part] = member
