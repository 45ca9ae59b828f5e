"""`diffusionmtl predict`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl.commands.finished import Finished, copy, digest, link
from diffusionmtl.commands.output import progress_bar, writable_folder
from diffusionmtl.commands.sources import Source, find_sources
from diffusionmtl.data.description import FILE_NAME, IMAGES, dataset_tasks, write_dataset_yaml
from diffusionmtl.errors import UserError
from diffusionmtl.files import MAX_PIXELS, read_image, write_picture
from diffusionmtl.inference.load import load, weights_file
from diffusionmtl.inference.prediction import PICTURES
from diffusionmtl.inference.predictor import Precision, Predictor, to_image
from diffusionmtl.inference.saving import Saver
from diffusionmtl.inference.tiles import Tiling
from diffusionmtl.inference.video import Video, is_video, write_video
from diffusionmtl.tasks import Task

DEFAULT_SAMPLES = 4
DATASET = "dataset"
_SPLIT = Path(DATASET, "train")


@dataclass(frozen=True)
class Request:
    """What an answer depends on beside the image and the network.

    Attributes:
        samples: noise draws.
        seed: of the noise.
        tiling: see images at their own resolution in tiles; large ones that nothing shrinks are anyway.
        flip: see the mirror image too.
    """

    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    tiling: Tiling | None = None
    flip: bool = False


def predict(
    run: Path,
    images: Iterable[str],
    out: Path,
    request: Request | None = None,
    *,
    checkpoint: str = "last",
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    every: int = 1,
    resume: bool = False,
    noise_scale: float = 1.0,
    calibrated: bool = True,
    precision: Precision = "fp32",
    progress: bool = True,
) -> list[Path]:
    """Predict every task for image files, videos, folders of them or globs, in bounded memory.

    An image is called as its file below the folder or glob that found it, without suffix. Writes `out/TASK/NAME.*`,
    `out/uncertainty/TASK/NAME.npy`, `out/pictures/NAME.png` and a `dataset.yaml` that says what the tasks are; of a
    calibrated run `out/confidence/TASK/NAME.png` too, how probable the answers are, for kinds that state it; and
    `out/dataset`, the same files beside copies of the images, which is a data set. Frames of a video are images
    `NAME/000000`, and `out/pictures/NAME/TASK.mp4` shows them.

    Args:
        request: how; as its defaults say if None.
        every: predict each n-th frame of a video.
        resume: leave out images that the same request was answered for.
        noise_scale: what every draw of noise is multiplied by.
        calibrated: use the run's `calibration.json`, if there is one.
        precision: of the arithmetic.

    Returns:
        The pictures, also of what was left out.

    Raises:
        UserError: no run, no image, or an image that cannot be read: it is named after all others are done.
    """
    sources = find_sources(images)
    predictor = load(run, device, checkpoint, precision=precision, noise_scale=noise_scale, calibrated=calibrated)
    _claim(out, predictor.tasks)
    request = request or Request()
    asked = digest(weights_file(run, checkpoint), request, precision, noise_scale, predictor.calibration)
    finished = Finished(out, asked)
    job = _Job(predictor, request, out, finished, max_pixels, every, resume, progress)
    show = progress_bar("predicting") if progress else None
    pictures: list[Path] = []
    failed: list[str] = []
    for done, source in enumerate(sources, start=1):
        try:
            pictures += job.answer(source)
        except UserError as error:
            failed.append(str(error))
        if show:
            show(done, len(sources))
    if failed:
        raise UserError(f"{len(failed)} of {len(sources)} images could not be predicted: {failed[0]}")
    return pictures


@dataclass(frozen=True)
class _Job:
    """Answers one file after the other."""

    predictor: Predictor
    request: Request
    out: Path
    finished: Finished
    max_pixels: int
    every: int
    resume: bool
    progress: bool

    def answer(self, source: Source) -> list[Path]:
        """The pictures of an image or a video."""
        content = digest(source.path)
        name = self.finished.name_for(source, content)
        if is_video(source.path):
            return list(self._video(source.path, name, content))
        done = self.finished.files(name, content) if self.resume else None
        if done is None:
            image = to_image(read_image(source.path, self.max_pixels))
            done = self._image(source.path, image, name, content)
        copy_to = self.out / _SPLIT / IMAGES / f"{name}{source.path.suffix.lower()}"
        if not copy_to.is_file() or digest(copy_to) != content:
            copy(source.path, copy_to)
        return [done[-1]]

    def _image(self, path: Path, image: UInt8[Tensor, "3 h w"], name: str, content: str) -> list[Path]:
        self.finished.forget(name)
        asked = self.request
        tiling = asked.tiling or self.predictor.tiling_for((image.shape[-2], image.shape[-1]))
        with Saver(self.predictor.tasks, self.out, name, image, calibration=self.predictor.calibration) as saver:
            for band in self.predictor.bands(image, asked.samples, asked.seed, tiling=tiling, flip=asked.flip):
                saver.add(band if asked.flip else self.predictor.calibrated(band))
            files = saver.finish()
        for file in files:
            inside = file.relative_to(self.out)
            if inside.parts[0] in {task.name for task in self.predictor.tasks}:
                link(file, self.out / _SPLIT / inside)
        self.finished.add(name, path, content, files)
        return files

    def _video(self, path: Path, name: str, content: str) -> Iterator[Path]:
        frames: dict[str, list[Path]] = {}
        with Video(path, self.max_pixels) as video:
            show = progress_bar(path.name, "frames") if self.progress else None
            for number, pixels in video.frames(self.every):
                frame = f"{name}/{number:06d}"
                key = digest(content, number)
                done = self.finished.files(frame, key) if self.resume else None
                if done is None:
                    write_picture(self.out / _SPLIT / IMAGES / f"{frame}.png", pixels)
                    done = self._image(path, to_image(pixels), frame, key)
                frames[frame] = done
                if show:
                    show(number + 1, max(video.length, number + 2))
            rate = video.rate / self.every
        key = digest(content, self.every)
        if not self.resume or self.finished.files(name, key) is None:
            shown = [_film(self.out, task, frames, name, rate) for task in self.predictor.tasks]
            self.finished.add(name, path, key, shown)
        yield from (files[-1] for files in frames.values())


def _film(out: Path, task: Task, frames: dict[str, list[Path]], name: str, rate: Fraction) -> Path:
    """The answers of one task one after the other, in the colours of the first, from the files."""

    def pictures() -> Iterator[Image.Image]:
        limits = None
        for files in frames.values():
            file = next(f for f in files if f.relative_to(out).parts[0] == task.name)
            value = task.value(task.read_prediction(file)[None])[0]
            limits = limits or task.limits(value, torch.ones(value.shape[-2:], dtype=torch.bool))
            yield Image.fromarray(np.ascontiguousarray(task.draw(value, limits=limits)))

    path = out / PICTURES / name / f"{task.name}.mp4"
    write_video(path, pictures(), rate)
    return path


def _claim(out: Path, tasks: Sequence[Task]) -> None:
    """Make the folder; one that holds anything but predictions of these tasks is refused, it might hold labels."""
    taken = out.is_dir() and any(out.iterdir())
    if taken and not ((out / PICTURES).is_dir() and (out / FILE_NAME).is_file() and dataset_tasks(out) == tuple(tasks)):
        raise UserError(f"--out {out}: holds something other than predictions of this run; choose another folder")
    writable_folder(out)
    (out / PICTURES).mkdir(exist_ok=True)  # so that a second call knows the folder even if the first predicted nothing
    write_dataset_yaml(out, tasks)
    write_dataset_yaml(out / DATASET, tasks)
