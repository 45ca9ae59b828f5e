"""What a comparison found: gains, spreads and intervals from the scores of its cells, as CSV, Markdown and a figure."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diffusionmtl.inference.per_image import FINAL, INITIAL, PerImage
from diffusionmtl.report.published_table import Setting
from diffusionmtl.report.resampling import gain_draws, image_draws, interval, resampled
from diffusionmtl.report.tables import Scores, gain
from diffusionmtl.tasks import Task

DONE = "done"
SINGLE_TASK, MULTI_TASK, FULL = "singletask", "multitask", "full-"
REFERENCES = (SINGLE_TASK, MULTI_TASK)
COSTS = ("params", "gmac", "steps", "seconds")


@dataclass(frozen=True)
class Row:
    """One method under one label setting with one seed.

    Attributes:
        state: done, or what else became of it.
        reason: why it failed.
        cost: params, gmac, steps and seconds of training; without what is not known.
        final: scores of the final prediction; empty unless done.
        initial: scores before refinement; empty without it.
        per_image: by part and task, what each image adds.
        notes: what must be known of the scored data to compare the scores with others.
    """

    labels: str
    method: str
    seed: int
    state: str
    reason: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    final: Scores = field(default_factory=dict)
    initial: Scores = field(default_factory=dict)
    per_image: Mapping[str, Mapping[str, PerImage]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether there are scores."""
        return self.state == DONE

    def scores(self, part: str) -> Scores:
        """Of the final or the initial prediction."""
        return self.final if part == FINAL else self.initial


@dataclass(frozen=True)
class Gain:
    """Δm of a method over a reference, in percent.

    Attributes:
        seeds: of each seed that both have.
        low, high: 95 % interval of their mean over draws of images; NaN where it cannot be had.
    """

    seeds: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.seeds) / len(self.seeds)


@dataclass(frozen=True)
class Comparison:
    """All rows, and what follows from them.

    Attributes:
        tasks: whose headline figures make Δm.
        settings: by label setting, which tables in print its rows may stand beside; none for data of one's own.
    """

    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def groups(self) -> list[str]:
        """The label settings, in order."""
        return list(dict.fromkeys(row.labels for row in self.rows))

    def methods(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def of(self, labels: str, method: str) -> list[Row]:
        """The finished rows of a method, a row per seed."""
        return [row for row in self.rows if (row.labels, row.method) == (labels, method) and row.done]

    def reference(self, row: Row, method: str) -> Row | None:
        """The finished row of another method with the same labels and seed."""
        return next((other for other in self.of(row.labels, method) if other.seed == row.seed), None)

    def gain(self, row: Row, reference: str, part: str = FINAL) -> float | None:
        """Δm of one row; None if the reference is missing or no task is defined for both."""
        other = self.reference(row, reference)
        return gain(self.tasks, row.scores(part), other.final) if other else None

    def method_gain(self, labels: str, method: str, reference: str, part: str = FINAL) -> Gain | None:
        """Δm of a method over the seeds that it shares with the reference; None if there are none."""
        pairs = [(row, self.reference(row, reference)) for row in self.of(labels, method)]
        found = [(row, other, self.gain(row, reference, part)) for row, other in pairs if other is not None]
        values = [(row, other, value) for row, other, value in found if value is not None]
        if not values:
            return None
        draws = [self._gain_draws(row, other, part) for row, other, _ in values]
        known = [one for one in draws if one is not None]
        low, high = interval(np.mean(known, axis=0)) if len(known) == len(values) else (math.nan, math.nan)
        return Gain(tuple(value for _, _, value in values), low, high)

    def _gain_draws(self, row: Row, other: Row, part: str) -> np.ndarray | None:
        if not all(self._has_intervals(one, of, other) for one, of in ((row, part), (other, FINAL))):
            return None
        return gain_draws(self.tasks, self._figures(row, part), self._figures(other, FINAL))

    def _has_intervals(self, row: Row, part: str, other: Row) -> bool:
        """Whether every scored task keeps statistics, for both of the same images."""
        return all(
            task in row.per_image.get(part, {})
            and row.per_image[part][task].statistics.size > 0
            and (task not in other.per_image.get(FINAL, {}) or _same_images(row, other, part, task))
            for task in row.scores(part)
        )

    def _figures(self, row: Row, part: str) -> Mapping[str, np.ndarray]:
        key = (row.labels, row.method, row.seed, part)
        if key not in self._kept_figures:
            images, draws = self._draws
            self._kept_figures[key] = resampled(self.tasks, row.per_image[part], draws, images)
        return self._kept_figures[key]

    @cached_property
    def _kept_figures(self) -> dict[tuple[str, str, int, str], Mapping[str, np.ndarray]]:
        return {}

    @cached_property
    def _draws(self) -> tuple[list[int], np.ndarray]:
        images = sorted(
            {
                image
                for row in self.rows
                for tasks in row.per_image.values()
                for kept in tasks.values()
                for image in kept.images
            }
        )
        return images, image_draws(len(images))


def _same_images(row: Row, other: Row, part: str, task: str) -> bool:
    return row.per_image[part][task].images == other.per_image[FINAL][task].images


def comparison_csv(comparison: Comparison) -> str:
    """One line per row: who, every figure but those of single classes, Δm, cost, and what became of it."""
    figures = list(
        dict.fromkeys(
            (task, name)
            for row in comparison.rows
            for task, of_task in row.final.items()
            for name in of_task
            if "/" not in name
        )
    )
    gains = [(part, ref) for part in (FINAL, INITIAL) for ref in REFERENCES]
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    names = [f"{'initial_' if part == INITIAL else ''}delta_m_vs_{ref}" for part, ref in gains]
    out.writerow(["method", "labels", "seed", *(f"{t}:{n}" for t, n in figures), *names, *COSTS, "state", "reason"])
    for row in comparison.rows:
        scores = [_cell(row.final.get(task, {}).get(name)) for task, name in figures]
        delta = [_cell(comparison.gain(row, ref, part)) for part, ref in gains]
        cost = [_cell(row.cost.get(name)) for name in COSTS]
        out.writerow([row.method, row.labels, row.seed, *scores, *delta, *cost, row.state, row.reason])
    return stream.getvalue()


def _cell(value: float | None) -> str:
    """Empty where undefined."""
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}" if value < 1e6 else f"{value:.0f}"
