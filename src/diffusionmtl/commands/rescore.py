"""`diffusionmtl evaluate --predictions`."""

from pathlib import Path
from typing import Any

from diffusionmtl.build import build_dataset
from diffusionmtl.commands.evaluate import plain_figures
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.config import DataSettings
from diffusionmtl.data.image_list import listed_images
from diffusionmtl.inference.rescore import rescore


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
        "notes": list(dataset.caveats),
        "samples": 1,
        "seed": 0,
        "checkpoint": "none",
        "images": scores.images,
        "final": plain_figures(scores.final),
        "initial": {},
    }
