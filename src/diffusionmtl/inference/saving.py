"""An answer that arrives in bands goes to disk as it comes; what is written is what `Prediction.save` writes.

A task writes each band as if it were an image of its own, and the pictures and arrays are joined here: no kind has to
know of bands.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.inference.bands import Band
from diffusionmtl.inference.calibration import Calibration, calibrated_confidence
from diffusionmtl.inference.prediction import CONFIDENCE, PICTURES, UNCERTAINTY, confidence_rows
from diffusionmtl.inference.sheet import Shown, sheet
from diffusionmtl.inference.streams import NpyStream, PngStream
from diffusionmtl.metrics.calibration import Scale
from diffusionmtl.tasks import Task

# A task writes at least so many pixels at once.
BAND_PIXELS = 1_000_000
# The longer side of each image in the picture that shows everything, at most.
PREVIEW = 1024


class Saver:
    """Writes the bands of one image; a context that leaves no half-written file behind.

    Attributes:
        written: the finished files, once `finish` has been called; the last one is the picture.

    Args:
        calibration: says how probable answers are; nothing is written of that if None.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folder: Path,
        name: str,
        image: UInt8[Tensor, "3 h w"],
        band_pixels: int = BAND_PIXELS,
        preview: int = PREVIEW,
        calibration: Calibration | None = None,
    ) -> None:
        self.written: list[Path] = []
        self._folder, self._name = folder, name
        self._size = (image.shape[-2], image.shape[-1])
        self._step = -(-max(self._size) // preview)
        self._preview = image[:, :: self._step, :: self._step].permute(1, 2, 0).numpy()
        self._scratch = tempfile.TemporaryDirectory(prefix="diffusionmtl-")
        height = max(1, band_pixels // self._size[1])
        self._tasks = {
            task.name: _TaskSaver(task, folder / task.name / name, self._size, Path(self._scratch.name), height)
            for task in tasks
        }
        self._shown: dict[str, Tensor] = {}
        self._shown_spreads: dict[str, Tensor] = {}
        self._spreads: dict[str, NpyStream] = {}
        self._fitted = {} if calibration is None else calibration.tasks
        self._confidences: dict[str, PngStream] = {}

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in [*self._tasks.values(), *self._spreads.values(), *self._confidences.values()]:
            part.discard()
        self._scratch.cleanup()

    def add(self, band: Band) -> None:
        """The next rows."""
        for name, found in band.tasks.items():
            saver = self._tasks[name]
            value = saver.task.value(found.mean)[0]
            saver.add(value)
            self._show(self._shown, name, band.top, value)
            if found.spread is not None:
                spread = found.spread[0].float()
                self._spread(name).add(spread.numpy())
                self._show(self._shown_spreads, name, band.top, spread)
            sure = calibrated_confidence(saver.task, found.mean, self._fitted.get(name))
            if sure is not None:
                self._confidence(name).add(confidence_rows(sure[0]))

    def _show(self, shown: dict[str, Tensor], name: str, top: int, rows: Tensor) -> None:
        """Keep every n-th row and column, in memory taken once: many small pieces would tear the heap apart."""
        if name not in shown:
            shown[name] = rows.new_zeros(*rows.shape[:-2], *self._preview.shape[:2])
        few = rows[..., -top % self._step :: self._step, :: self._step]
        start = -(-top // self._step)
        shown[name][..., start : start + few.shape[-2], :] = few

    def finish(self) -> list[Path]:
        """Everything under its name; returns the files."""
        for name, saver in self._tasks.items():
            self.written += saver.finish()
            if name in self._spreads:
                self.written.append(self._spreads[name].finish())
            if name in self._confidences:
                self.written.append(self._confidences[name].finish())
        picture = self._folder / PICTURES / f"{self._name}.png"
        files.write_picture(picture, np.asarray(self._picture()))
        self.written.append(picture)
        return self.written

    def _spread(self, name: str) -> NpyStream:
        if name not in self._spreads:
            path = self._folder / UNCERTAINTY / name / f"{self._name}.npy"
            self._spreads[name] = NpyStream(path, self._size, np.dtype(np.float32))
        return self._spreads[name]

    def _confidence(self, name: str) -> PngStream:
        if name not in self._confidences:
            path = self._folder / CONFIDENCE / name / f"{self._name}.png"
            self._confidences[name] = PngStream(path, self._size, "I;16")
        return self._confidences[name]

    def _picture(self) -> Image.Image:
        return sheet(
            self._preview,
            [
                Shown(
                    self._tasks[name].task,
                    value,
                    self._shown_spreads.get(name),
                    isinstance(self._fitted.get(name), Scale),
                )
                for name, value in self._shown.items()
            ],
        )


class _TaskSaver:
    """The files of one task, each a stream that begins when the task has written its first band."""

    def __init__(self, task: Task, stem: Path, size: tuple[int, int], scratch: Path, height: int) -> None:
        self.task, self.stem, self.size = task, stem, size
        self._scratch, self._height = scratch / task.name / "band", height
        self._waiting: list[Tensor] = []
        self._rows = self._done = 0
        self._streams: dict[str, NpyStream | PngStream] = {}

    def add(self, value: Tensor) -> None:
        self._waiting.append(value)
        self._rows += value.shape[-2]
        if self._rows >= self._height and self._done + self._rows < self.size[0]:
            self._write()

    def finish(self) -> list[Path]:
        if not self._done:
            return self.task.write(self.stem, torch.cat(self._waiting, dim=-2))
        self._write()
        return [stream.finish() for stream in self._streams.values()]

    def discard(self) -> None:
        for stream in self._streams.values():
            stream.discard()

    def _write(self) -> None:
        for path in self.task.write(self._scratch, torch.cat(self._waiting, dim=-2)):
            begin, rows = _opened(path, self.size)
            if path.name not in self._streams:
                tail = path.name.removeprefix(self._scratch.name)
                self._streams[path.name] = begin(self.stem.with_name(self.stem.name + tail))
            self._streams[path.name].add(rows)
        self._waiting, self._done, self._rows = [], self._done + self._rows, 0


def _opened(path: Path, size: tuple[int, int]) -> tuple[Callable[[Path], NpyStream | PngStream], np.ndarray]:
    """What begins a file of the full size like the one at `path`, and the rows in it."""
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
        return lambda to: NpyStream(to, (size[0], *array.shape[1:]), array.dtype), array
    if path.suffix != ".png":
        raise ValueError(f"a task that writes {path.suffix} cannot be written in bands; write .png or .npy")
    with Image.open(path) as picture:
        picture.load()
        palette = bytes(picture.getpalette() or []) if picture.mode == "P" else b""
        mode = picture.mode
        return lambda to: PngStream(to, size, mode, palette), np.asarray(picture)
