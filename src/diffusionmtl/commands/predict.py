"""`diffusionmtl predict`."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffusionmtl.commands.output import progress_bar, writable_folder
from diffusionmtl.data.description import FILE_NAME, dataset_tasks, write_dataset_yaml
from diffusionmtl.errors import UserError
from diffusionmtl.files import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from diffusionmtl.inference.load import load
from diffusionmtl.inference.prediction import PICTURES
from diffusionmtl.tasks import Task

DEFAULT_SAMPLES = 4


def predict(
    run: Path,
    images: Iterable[str],
    out: Path,
    *,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    checkpoint: str = "last",
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> list[Path]:
    """Predict every task for image files, folders of images or globs.

    Writes `out/TASK/NAME.*`, `out/uncertainty/TASK/NAME.npy` and `out/pictures/NAME.png`, and a `dataset.yaml` that
    says what the tasks are.

    Returns:
        The pictures.

    Raises:
        UserError: no run, no image, or an image that cannot be read: it is named after all others are done.
    """
    sources = find_images(images)
    predictor = load(run, device, checkpoint)
    _claim(out, predictor.network.tasks)
    show = progress_bar("predicting") if progress else None
    pictures: list[Path] = []
    failed: list[str] = []
    for done, (stem, path) in enumerate(unique_stems(sources).items(), start=1):
        try:
            pictures.append(predictor(read_image(path, max_pixels), samples, seed).save(out, stem)[-1])
        except UserError as error:
            failed.append(str(error))
        if show:
            show(done, len(sources))
    if failed:
        raise UserError(f"{len(failed)} of {len(sources)} images could not be predicted: {failed[0]}")
    return pictures


def _claim(out: Path, tasks: Sequence[Task]) -> None:
    """Make the folder; one that holds anything but predictions of these tasks is refused, it might hold labels."""
    taken = out.is_dir() and any(out.iterdir())
    if taken and not ((out / PICTURES).is_dir() and (out / FILE_NAME).is_file() and dataset_tasks(out) == tuple(tasks)):
        raise UserError(f"--out {out}: holds something other than predictions of this run; choose another folder")
    writable_folder(out)
    (out / PICTURES).mkdir(exist_ok=True)  # so that a second call knows the folder even if the first predicted nothing
    write_dataset_yaml(out, tasks)


def find_images(names: Iterable[str]) -> list[Path]:
    """The image files that paths, folders (searched to the bottom) and globs stand for, without repeats.

    Raises:
        UserError: a name stands for no image.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            here = sorted(p for p in path.rglob("*") if _is_image(p))
        elif path.exists():
            here = [path]
        else:
            here = sorted(Path(match) for match in glob.glob(name, recursive=True))
        if not here:
            raise UserError(f"{name}: no image there; give files, folders or globs of {', '.join(IMAGE_SUFFIXES)}")
        found.update(dict.fromkeys(here))
    return list(found)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def unique_stems(paths: Iterable[Path]) -> dict[str, Path]:
    """A different output name for every image: its own, with a number where two would be equal."""
    named: dict[str, Path] = {}
    for path in paths:
        stem, number = path.stem, 2
        while stem in named:
            stem, number = f"{path.stem}-{number}", number + 1
        named[stem] = path
    return named
