"""Confidence intervals by drawing images again (bootstrap), the same draws for everything that is compared.

A figure of a data set is pooled over its pixels, so a draw sums the statistics of the drawn images and pools anew. What
two networks have in common, images that are hard for both, cancels where both see the same draws.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64

from diffusionmtl.inference.per_image import PerImage
from diffusionmtl.tasks import Task

DRAWS = 1000
INTERVAL = (2.5, 97.5)

Figures = Mapping[str, Float64[np.ndarray, "d"]]
"""By task, the headline figure in each draw."""


def image_draws(images: int, draws: int = DRAWS, seed: int = 0) -> Int64[np.ndarray, "d n"]:
    """How often each image is in each draw of as many images, with replacement; the first draw has each image once."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=draws)
    return np.concatenate([np.ones((1, images), dtype=np.int64), drawn])


def resampled(
    tasks: Sequence[Task], kept: Mapping[str, PerImage], draws: Int64[np.ndarray, "d n"], images: Sequence[int]
) -> dict[str, Float64[np.ndarray, "d"]]:
    """Each task's headline figure in every draw; NaN where undefined.

    Args:
        kept: per task, what each of its images adds.
        draws: as `image_draws` gives them.
        images: positions in the data set, in the order of the columns of `draws`.
    """
    column = {image: number for number, image in enumerate(images)}
    found = {}
    for task in tasks:
        if task.name in kept:
            of_task = kept[task.name]
            times = draws[:, [column[image] for image in of_task.images]].astype(np.float64)
            found[task.name] = task.meter().headline(torch.from_numpy(times @ of_task.statistics)).numpy()
    return found


def gain_draws(tasks: Sequence[Task], values: Figures, references: Figures) -> Float64[np.ndarray, "d"] | None:
    """Δm in percent in every draw, over the tasks that both have and that are defined for all images; None without one.

    A draw in which one of these tasks is undefined is NaN.
    """
    gains = []
    for task in tasks:
        if task.name in values and task.name in references:
            value, reference = values[task.name], references[task.name]
            if np.isfinite(value[0]) and np.isfinite(reference[0]) and reference[0] != 0:
                sign = 1 if task.higher_is_better else -1
                with np.errstate(divide="ignore", invalid="ignore"):
                    gain = 100 * sign * (value - reference) / reference
                gains.append(np.where(np.isfinite(gain), gain, np.nan))
    return np.mean(gains, axis=0) if gains else None


def interval(draws: Float64[np.ndarray, "d"]) -> tuple[float, float]:
    """The middle 95 % of the draws that are defined, without the first, which is the data set itself."""
    defined = draws[1:][np.isfinite(draws[1:])]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)
