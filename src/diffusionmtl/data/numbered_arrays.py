"""Benchmarks that somebody has turned into folders of numbered arrays: image i of a split is `<folder>/<i>.npy`.

The number types of the files are not known, so every type that holds the expected numbers is read.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from diffusionmtl import files
from diffusionmtl.data.published_files import PublishedDataset, class_label
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks import SemanticSegmentation, Task

IMAGE = "image"


class NumberedArrays(PublishedDataset):
    """One split of such a benchmark. Image i is named `i`; class -1 is unknown.

    Attributes:
        folders: per task the folder of its labels.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        tasks: Sequence[Task],
        folders: Mapping[str, str],
        name: str,
        max_pixels: int = files.MAX_PIXELS,
    ) -> None:
        """Count the images; `check_complete` looks for the labels."""
        self.name, self.title = name, f"{name} (arrays)"
        self.folders = dict(folders)
        self._folder = root / split
        super().__init__(root, tasks, numbered(self._folder / IMAGE), max_pixels)

    def path(self, index: int, task: str | None) -> Path:
        """The array of an image or label."""
        return self._folder / (IMAGE if task is None else self.folders[task]) / f"{self.names[index]}.npy"

    def _pixels(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        return read_unit_image(path, self._max_pixels)

    def _size(self, path: Path) -> tuple[int, int]:
        height, width, _ = self._pixels(path).shape
        return height, width

    def _read_as_it_is(self, task: str) -> bool:
        return not any(t.name == task and isinstance(t, SemanticSegmentation) for t in self.tasks)

    def _label(self, index: int, kind: Task) -> tuple[LabelMap, ValidMap]:
        path = self.path(index, kind.name)
        if isinstance(kind, SemanticSegmentation):
            classes = read_whole_numbers(path, self._max_pixels)
            return class_label(path, kind, classes, classes == -1)
        return kind.read(path, self._max_pixels)


def numbered(folder: Path) -> tuple[str, ...]:
    """The names 0 .. n - 1 of a folder of numbered files, n - 1 being the largest there.

    Raises:
        UserError: there is no such file, or more numbers are missing than are there.
    """
    stems = (Path(name).stem for name in (os.listdir(folder) if folder.is_dir() else ()) if name.endswith(".npy"))
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    if not numbers:
        raise UserError(f"{folder}: expected numbered files, 0.npy, 1.npy and so on")
    if max(numbers) >= 2 * len(numbers):
        raise UserError(f"{folder}: {len(numbers)} files but one is numbered {max(numbers)}; numbers start at 0")
    return tuple(map(str, range(max(numbers) + 1)))


def read_unit_image(path: Path, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image kept as a `.npy` [H W 3] of numbers in [0, 1] (or bytes), as bytes.

    Raises:
        UserError: another shape or range.
    """
    raw = files.read_array(path, max_pixels)
    if raw.ndim != 3 or raw.shape[2] != 3:
        raise UserError(f"{path}: an image needs shape [H W 3], found {_shape(raw)}")
    if raw.dtype == np.uint8:
        return raw
    numbers = raw.astype(np.float64)
    if not (np.isfinite(numbers).all() and numbers.min() >= -1e-3 and numbers.max() <= 1 + 1e-3):
        raise UserError(f"{path}: image values from {numbers.min():.6g} to {numbers.max():.6g}, expected 0 to 1")
    return np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)


def read_whole_numbers(path: Path, max_pixels: int) -> Shaped[np.ndarray, "h w"]:
    """A `.npy` [H W] of whole numbers of any dtype as int64; what is no whole number is refused.

    Raises:
        UserError: another shape, or fractions.
    """
    raw = files.read_array(path, max_pixels)
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[..., 0]
    if raw.ndim != 2:
        raise UserError(f"{path}: a segmentation needs shape [H W], found {_shape(raw)}")
    with np.errstate(invalid="ignore", over="ignore"):
        whole = raw.astype(np.int64)
        if not np.array_equal(whole, raw):
            raise UserError(f"{path}: holds values that are no whole numbers, so no class indices")
    return whole


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "a single number"
