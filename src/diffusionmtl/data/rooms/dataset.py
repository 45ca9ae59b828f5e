"""The drawn rooms as a data set."""

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from diffusionmtl.cache import default_cache
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.export import export_folder
from diffusionmtl.data.rooms.chunks import RENDER_VERSION, Progress, RoomStore, draw_missing
from diffusionmtl.data.rooms.parts import PART_CLASSES, SEMSEG_CLASSES
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals, Task

__all__ = ["RENDER_VERSION", "RoomsDataset", "export_rooms", "rooms_tasks"]

# Seeds of the splits never meet: a data set's seed owns ten million room seeds, each split half of them.
_SEEDS = 10_000_000
_FIRST_SEED = {"train": 0, "val": _SEEDS // 2}


def rooms_tasks() -> tuple[Task, ...]:
    """What every room is labelled for; the names are those of the fields of a `Room`."""
    return (
        SemanticSegmentation("semseg", classes=SEMSEG_CLASSES),
        Depth("depth"),
        SurfaceNormals("normals"),
        Boundary("edge"),
        Saliency("saliency"),
        SemanticSegmentation("human_parts", classes=PART_CLASSES, weight=2.0),
    )


class RoomsDataset(DenseDataset):
    """Drawn rooms with every label, read from files on disk."""

    def __init__(self, store: RoomStore, count: int) -> None:
        """The first `count` rooms of a store that has them; `open` draws them first."""
        self.name = "rooms"
        self.tasks = rooms_tasks()
        self.names = tuple(f"room-{i:05d}" for i in range(count))
        self._store = store
        self._annotated = frozenset(task.name for task in self.tasks)

    @classmethod
    def open(
        cls,
        split: str,
        count: int,
        size: tuple[int, int],
        seed: int = 0,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> "RoomsDataset":
        """Draw `count` rooms of `size` (H, W), or take them from `cache`.

        Args:
            split: `train` or `val`; no room is in both.
            progress: called with (done, count) after each room that had to be drawn.

        Raises:
            UserError: an argument is out of range, or the cache cannot be written.
        """
        if split not in _FIRST_SEED:
            raise UserError(f"rooms: no split '{split}'; rooms are drawn for {' and '.join(_FIRST_SEED)}")
        if not 1 <= count <= _SEEDS // 2:
            raise UserError(f"rooms: count {count} is not between 1 and {_SEEDS // 2:,}")
        if seed < 0:
            raise UserError(f"rooms: seed {seed} is negative; use 0 or more")
        if min(size) < 1:
            raise UserError(f"rooms: size {size[0]}x{size[1]} must be at least 1x1")
        folder = f"v{RENDER_VERSION}-{size[0]}x{size[1]}-s{seed}-{split}"
        store = RoomStore((cache or default_cache()) / "rooms" / folder, seed * _SEEDS + _FIRST_SEED[split], size)
        draw_missing(store, count, progress)
        return cls(store, count)

    def annotated(self, index: int) -> frozenset[str]:
        """Every task."""
        return self._annotated

    def image(self, index: int) -> UInt8[Tensor, "3 h w"]:
        """The picture."""
        self._check(index)
        return torch.from_numpy(np.ascontiguousarray(self._store.read("image", index).transpose(2, 0, 1)))

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """The drawn truth."""
        self._check(index)
        kind = next(t for t in self.tasks if t.name == task)
        raw = self._store.read(task, index)
        channels_first = np.ascontiguousarray(raw.transpose(2, 0, 1)) if raw.ndim == 3 else raw[None]
        value = torch.from_numpy(channels_first)
        return value.as_subclass(kind.label_type), _known(kind, value)[None].as_subclass(ValidMap)

    def _check(self, index: int) -> None:
        # A chunk may hold more rooms than this data set.
        if not 0 <= index < len(self):
            raise IndexError(index)


def _known(task: Task, value: Tensor) -> Bool[Tensor, "h w"]:
    """Where a ray met something: the rooms are closed, so everywhere but for the odd crack."""
    if isinstance(task, Depth):
        return torch.isfinite(value[0]) & (value[0] > 0)
    if isinstance(task, SurfaceNormals):
        return value.square().sum(dim=0) > 0.25
    return torch.ones(value.shape[-2:], dtype=torch.bool)


def export_rooms(
    out: Path,
    counts: Mapping[str, int],
    size: tuple[int, int],
    seed: int = 0,
    visible: Mapping[str, Mapping[str, Set[str]]] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Write drawn rooms as a partly labelled folder.

    Args:
        counts: rooms per split, e.g. `{"train": 500, "val": 100}`.
        visible: per split and image name the tasks to write labels of; a split that is left out gets all.
        progress: called with (done, all) images while they are written, and before that while they are drawn.

    Raises:
        UserError: `out` is not an empty or new folder, or cannot be written.
    """
    splits = {split: RoomsDataset.open(split, n, size, seed, cache, progress) for split, n in counts.items()}
    export_folder(out, splits, visible, progress)
