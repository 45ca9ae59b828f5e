"""`diffusionmtl evaluate --predictions`."""

from pathlib import Path
from typing import Any

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.evaluate import plain_figures
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.config import DataSettings
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.inference.rescore import rescore

MAX_BYTES = 100_000_000


def evaluate_predictions(
    folder: Path,
    data: DataSettings,
    split: str = "val",
    *,
    images: Path | None = None,
    allow_missing: bool = False,
    annotators: Path | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Score saved predictions of any program under all protocols.

    Args:
        folder: predictions as `TASK/IMAGE.png` or `TASK/IMAGE.npy`.
        data: the labels.
        split: which split.
        images: file with names of images, one a line: score these alone.
        allow_missing: leave out images that were not predicted.
        annotators: boundaries by several people, as `TASK/IMAGE/*.png`.
        jobs: processes.
        progress: draw progress bars.

    Returns:
        The scores as plain data, the form of `metrics.json`.

    Raises:
        UserError: predictions are missing or wrong, or fit no task of the data.
    """
    dataset = build_dataset(data, split, progress_bar("drawing rooms") if progress else None)
    scores = rescore(
        folder,
        dataset,
        indices=None if images is None else listed_images(images, dataset),
        allow_missing=allow_missing,
        annotators=annotators,
        jobs=jobs,
        progress=progress_bar("scoring") if progress else None,
    )
    return {
        "format": 1,
        "data": list(data.data),
        "split": split,
        "predictions": str(folder),
        "samples": 1,
        "seed": 0,
        "checkpoint": "none",
        "images": scores.images,
        "final": plain_figures(scores.final),
        "initial": {},
    }


def listed_images(path: Path, dataset: DenseDataset) -> list[int]:
    """The positions of the images that a file names, one a line.

    Raises:
        UserError: the file cannot be read, names no image, or one that the data set does not have.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"--images {path}: larger than {MAX_BYTES:,} bytes, surely not a list of names")
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--images {path}: not readable as a list of names ({type(error).__name__})") from None
    position = {name: index for index, name in enumerate(dataset.names)}
    chosen: dict[int, None] = {}
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        if name not in position:
            raise UserError(
                f"--images {path}, line {number}: data set '{dataset.name}' has no image '{name[:80]}'."
                f"{nearest(name[:80], dataset.names[:1000])}"
            )
        chosen[position[name]] = None
    if not chosen:
        raise UserError(f"--images {path}: names no image; one name a line, without suffix")
    return list(chosen)
