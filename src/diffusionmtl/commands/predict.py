"""`diffusionmtl predict`."""

import sys
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


@dataclass(frozen=True)
class Plan:
    """What is asked of which network: plain values, so that another process can be told.

    Attributes:
        run: the run.
        out: the folder for the answers.
        request: how.
        checkpoint: `last` or `best`.
        device: where to compute.
        max_pixels: larger images are refused.
        every: predict each n-th frame of a video.
        resume: leave out images that the same request was answered for.
        noise_scale: what every draw of noise is multiplied by.
        calibrated: use the run's `calibration.json`, if there is one.
        precision: of the arithmetic.
    """

    run: Path
    out: Path
    request: Request
    checkpoint: str = "last"
    device: str = "cpu"
    max_pixels: int = MAX_PIXELS
    every: int = 1
    resume: bool = False
    noise_scale: float = 1.0
    calibrated: bool = True
    precision: Precision = "fp32"

    def job(self, progress: bool = False) -> "Job":
        """Load the network.

        Raises:
            UserError: no run, or a damaged one.
        """
        predictor = load(
            self.run,
            self.device,
            self.checkpoint,
            precision=self.precision,
            noise_scale=self.noise_scale,
            calibrated=self.calibrated,
        )
        weights = weights_file(self.run, self.checkpoint)
        asked = digest(weights, self.request, self.precision, self.noise_scale, predictor.calibration)
        return Job(self, predictor, Finished(self.out, asked), progress)


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
    given = (checkpoint, device, max_pixels, every, resume, noise_scale, calibrated, precision)
    plan = Plan(run, out, request or Request(), *given)
    sources = find_sources(images)
    job = plan.job(progress)
    job.say_what_flip_leaves_out()
    claim(out, job.predictor.tasks)
    show = progress_bar("predicting") if progress else None
    pictures: list[Path] = []
    failed: list[str] = []
    for done, source in enumerate(sources, start=1):
        try:
            pictures += job.answer(source, job.name_for(source))
        except UserError as error:
            failed.append(str(error))
        if show:
            show(done, len(sources))
    raise_if_any(failed, len(sources))
    return pictures


def raise_if_any(failed: Sequence[str], of: int) -> None:
    """Name the first image that could not be predicted.

    Raises:
        UserError: there is one.
    """
    if failed:
        raise UserError(f"{len(failed)} of {of} images could not be predicted: {failed[0]}")


@dataclass(frozen=True)
class Job:
    """Answers one file after the other."""

    plan: Plan
    predictor: Predictor
    finished: Finished
    progress: bool

    @property
    def out(self) -> Path:
        """The folder for the answers."""
        return self.plan.out

    def say_what_flip_leaves_out(self) -> None:
        """Whoever calibrated a run would take its spreads for calibrated."""
        fitted, kept = (self.predictor.calibration_for(flip) for flip in (False, self.plan.request.flip))
        if fitted is not None and kept is not None and fitted.tasks.keys() > kept.tasks.keys():
            names = ", ".join(sorted(fitted.tasks.keys() - kept.tasks.keys()))
            print(
                f"note: --flip: uncertainty of {names} is the spread, not the calibrated error to expect, which was "
                "found without mirror images; leave out --flip for that",
                file=sys.stderr,
            )

    def name_for(self, source: Source) -> str:
        """What an image or a video on this machine is to be called."""
        return self.finished.name_for(source, lambda: digest(source.path))

    def answer(self, source: Source, name: str) -> list[Path]:
        """The pictures of an image or a video.

        Raises:
            UserError: it cannot be read.
        """
        content = digest(source.path)
        if is_video(source.path):
            return list(self._video(source, name, content))
        done = self.finished.files(name, content) if self.plan.resume else None
        if done is None:
            image = to_image(read_image(source.path, self.plan.max_pixels))
            done = self._image(source, image, name, content)
        copy_to = self.out / _SPLIT / IMAGES / f"{name}{source.path.suffix.lower()}"
        if not copy_to.is_file() or digest(copy_to) != content:
            copy(source.path, copy_to)
        return [done[-1]]

    def _image(self, source: Source, image: UInt8[Tensor, "3 h w"], name: str, content: str) -> list[Path]:
        self.finished.forget(name)
        asked = self.plan.request
        tiling = asked.tiling or self.predictor.tiling_for((image.shape[-2], image.shape[-1]))
        calibration = self.predictor.calibration_for(asked.flip)
        with Saver(self.predictor.tasks, self.out, name, image, calibration=calibration) as saver:
            for band in self.predictor.bands(image, asked.samples, asked.seed, tiling=tiling, flip=asked.flip):
                saver.add(band if asked.flip else self.predictor.calibrated(band))
            files = saver.finish()
        for file in files:
            inside = file.relative_to(self.out)
            if inside.parts[0] in {task.name for task in self.predictor.tasks}:
                link(file, self.out / _SPLIT / inside)
        self.finished.add(name, source.origin, content, files)
        return files

    def _video(self, source: Source, name: str, content: str) -> Iterator[Path]:
        frames: dict[str, list[Path]] = {}
        every, resume = self.plan.every, self.plan.resume
        with Video(source.path, self.plan.max_pixels) as video:
            show = progress_bar(source.path.name, "frames") if self.progress else None
            for number, pixels in video.frames(every):
                frame = f"{name}/{number:06d}"
                key = digest(content, number)
                done = self.finished.files(frame, key) if resume else None
                if done is None:
                    write_picture(self.out / _SPLIT / IMAGES / f"{frame}.png", pixels)
                    done = self._image(source, to_image(pixels), frame, key)
                frames[frame] = done
                if show:
                    show(number + 1, max(video.length, number + 2))
            rate = video.rate / every
        key = digest(content, every)
        if not resume or self.finished.files(name, key) is None:
            shown = [_film(self.out, task, frames, name, rate) for task in self.predictor.tasks]
            self.finished.add(name, source.origin, key, shown)
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


def claim(out: Path, tasks: Sequence[Task]) -> None:
    """Make the folder; one that holds anything but predictions of these tasks is refused, it might hold labels."""
    taken = out.is_dir() and any(out.iterdir())
    if taken and not ((out / PICTURES).is_dir() and (out / FILE_NAME).is_file() and dataset_tasks(out) == tuple(tasks)):
        raise UserError(f"--out {out}: holds something other than predictions of this run; choose another folder")
    writable_folder(out)
    (out / PICTURES).mkdir(exist_ok=True)  # so that a second call knows the folder even if the first predicted nothing
    write_dataset_yaml(out, tasks)
    write_dataset_yaml(out / DATASET, tasks)
