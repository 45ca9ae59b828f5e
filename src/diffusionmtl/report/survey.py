"""What a page says of many images: how their answers lie beside the labels, and which came out best and worst."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.inference.draws import Answered
from diffusionmtl.inference.evaluate import shared_tasks
from diffusionmtl.inference.per_image import PerImage
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.uncertainty import Uncertainty, measure_uncertainty
from diffusionmtl.report.content import Example, Finding, Ranked
from diffusionmtl.report.examples import examples
from diffusionmtl.report.measured import Measured
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.charts import Counts

RANKS = ("best", "median", "worst")


def survey(
    predictor: Predictor,
    dataset: DenseDataset,
    count: int,
    samples: int,
    seed: int,
    measured: Measured | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Finding, ...]:
    """Per task that the data set annotates, how answers lie beside the labels of at most `count` of its images.

    Args:
        samples: noise draws.
        seed: of the noise.
        measured: uncertainties that were measured before, which are then not taken from these images.
        progress: called with (images done, all).

    Raises:
        UserError: no task in common, or a file cannot be read.
    """
    tasks = shared_tasks(predictor.tasks, dataset)
    wanted = surveyed_images(dataset, list(tasks), count)
    counted: dict[str, tuple[Counts, ...]] = {}

    def add(answer: Answered) -> None:
        found = answer.task.charts(answer.estimate, answer.label, answer.valid)
        before = counted.get(answer.task.name)
        counted[answer.task.name] = (
            found if before is None else tuple(a + b for a, b in zip(before, found, strict=True))
        )

    fitted = predictor.calibration
    sure = measure_uncertainty(predictor, dataset, tasks, wanted, samples, seed, fitted, progress, add)
    many = len(dataset)
    return tuple(
        _finding(task, counted.get(task.name, ()), sure[task.name], many, measured)
        for task in predictor.tasks
        if task.name in sure
    )


def _finding(
    task: Task, charts: tuple[Counts, ...], sure: Uncertainty, many: int, measured: Measured | None
) -> Finding:
    note = (
        f"Over {sure.images:,} images of {many:,}, evenly spaced."
        if sure.images < many
        else f"Over all {many:,} images."
    )
    better = None if measured is None else measured.tasks.get(task.name)
    if better is None or measured is None:
        return Finding(task.name, task.kind, note, charts, sure)
    return Finding(task.name, task.kind, note, charts, better, measured.words(better))


def surveyed_images(dataset: DenseDataset, tasks: Sequence[str], count: int) -> dict[int, frozenset[str]]:
    """Per image what to look at: of each task at most `count` labels, evenly spaced among those that count."""
    counted = [dataset.counted(index) for index in range(len(dataset))]
    wanted: dict[int, set[str]] = {}
    for task in tasks:
        having = [index for index, names in enumerate(counted) if task in names]
        few = min(count, len(having))
        for at in range(few):
            wanted.setdefault(having[(2 * at + 1) * len(having) // (2 * few)], set()).add(task)
    return {index: frozenset(wanted[index]) for index in sorted(wanted)}


def ranked_images(task: Task, kept: PerImage) -> dict[str, int]:
    """The best, median and worst image by the headline figure of each alone; empty for fewer than three figures."""
    if kept.statistics.shape[1:] in ((), (0,)):
        return {}
    figures = task.meter().headline(torch.from_numpy(np.asarray(kept.statistics, dtype=np.float64))).numpy()
    known = np.flatnonzero(np.isfinite(figures))
    if len(known) < len(RANKS):
        return {}
    order = known[np.argsort(-figures[known] if task.higher_is_better else figures[known], kind="stable")]
    places = (0, len(order) // 2, len(order) - 1)
    return {rank: kept.images[order[at]] for rank, at in zip(RANKS, places, strict=True)}


def ranked(
    predictor: Predictor,
    dataset: DenseDataset,
    per_image: Mapping[str, PerImage],
    samples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> tuple[Ranked, ...]:
    """Pictures of the best, median and worst image of every task that was scored image by image.

    Args:
        dataset: what was scored. A task whose scores are of other images is left out.
        per_image: scores of the final prediction.
        samples: noise draws.
        seed: of the noise.
        progress: called with (pictures done, all).
        settings: more of what `examples` takes.

    Raises:
        UserError: an image or label cannot be read.
    """
    chosen = {
        task.name: images
        for task in predictor.tasks
        if task.name in per_image and (images := ranked_images(task, per_image[task.name]))
        if all(index < len(dataset) and task.name in dataset.counted(index) for index in per_image[task.name].images)
    }
    wanted = list(dict.fromkeys(index for images in chosen.values() for index in images.values()))
    drawn: dict[int, Example] = {}
    for done, index in enumerate(wanted, start=1):
        drawn[index] = examples(predictor, dataset, [index], samples=samples, seed=seed, **settings)[0]
        if progress is not None:
            progress(done, len(wanted))
    headlines = {task.name: task.headline for task in predictor.tasks}
    return tuple(
        Ranked(
            name,
            f"By {headlines[name]} of each of {len(per_image[name].images):,} images alone.",
            {rank: _only(drawn[index], name) for rank, index in images.items()},
        )
        for name, images in chosen.items()
    )


def _only(example: Example, task: str) -> Example:
    return replace(example, panels=tuple(panel for panel in example.panels if panel.task == task))
