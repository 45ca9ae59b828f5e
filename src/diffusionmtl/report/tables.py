"""Scores and label counts as tables of text."""

import math
from collections.abc import Mapping, Sequence

from diffusionmtl.data.partition import Partition
from diffusionmtl.metrics.functional import delta_m
from diffusionmtl.report.content import Table
from diffusionmtl.report.log import Metrics
from diffusionmtl.tasks import Task

UNDEFINED = "–"
SCORE, INITIAL, REFINED = "score", "initial", "refined"

Scores = Mapping[str, Mapping[str, float]]


def number_texts(values: Sequence[float]) -> list[str]:
    """Numbers that are to be compared, with equally many decimals: 4 if all are below 1, 3 below 10, else 2.

    Undefined ones are a dash.
    """
    size = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = 4 if size < 1 else 3 if size < 10 else 2
    return [f"{value:.{decimals}f}" if math.isfinite(value) else UNDEFINED for value in values]


def gain_text(percent: float | None) -> str:
    """A relative gain with its sign, `+3.21 %`; a dash if there is none."""
    return UNDEFINED if percent is None else f"{percent:+.2f} %".replace("-", "−")


def gain(tasks: Sequence[Task], scores: Scores, references: Scores) -> float | None:
    """Δm in percent over the tasks whose headline figure both have; None if there is no such task."""
    pairs: dict[str, tuple[float, float]] = {}
    for task in tasks:
        value = headline(task, scores)
        reference = headline(task, references)
        if math.isfinite(value) and math.isfinite(reference) and reference != 0:
            pairs[task.name] = (value, reference)
    if not pairs:
        return None
    better = {task.name: task.higher_is_better for task in tasks if task.name in pairs}
    return delta_m({t: v for t, (v, _) in pairs.items()}, {t: r for t, (_, r) in pairs.items()}, better)


def headline(task: Task, scores: Scores) -> float:
    """A task's headline figure, NaN if it was not scored."""
    return scores.get(task.name, {}).get(task.headline, math.nan)


def headline_table(tasks: Sequence[Task], columns: Mapping[str, Scores], reference: str, caption: str) -> Table:
    """Each task's headline figure per column of scores, and Δm of every column against `reference`.

    The best of each row is emphasised, and what reads the same beside it.
    """
    rows: list[tuple[str, ...]] = []
    strong: set[tuple[int, int]] = set()
    scored = [task for task in tasks if any(task.name in scores for scores in columns.values())]
    for number, task in enumerate(scored):
        values = [headline(task, scores) for scores in columns.values()]
        texts = number_texts(values)
        rows.append((f"{task.name}\n{task.headline}\u00a0{better(task)}", *texts))
        strong |= {(number, 1 + column) for column in _best(task, values, texts)}
    if len(columns) > 1:
        gains = [gain(scored, scores, columns[reference]) for scores in columns.values()]
        words = ["0" if name == reference else gain_text(g) for name, g in zip(columns, gains, strict=True)]
        rows.append((f"Δm\nmean gain on {reference} ↑", *words))
    return Table(caption, ("task", *columns), tuple(rows), frozenset(strong))


def better(task: Task) -> str:
    """An arrow: which way the headline figure is better."""
    return "↑" if task.higher_is_better else "↓"


def _best(task: Task, values: Sequence[float], texts: Sequence[str]) -> list[int]:
    """The columns that read as the best one; none if all read alike."""
    finite = [column for column, value in enumerate(values) if math.isfinite(value)]
    if len({texts[column] for column in finite}) < 2:
        return []
    best = (max if task.higher_is_better else min)(finite, key=values.__getitem__)
    return [column for column in finite if texts[column] == texts[best]]


def figure_tables(tasks: Sequence[Task], columns: Mapping[str, Scores]) -> list[Table]:
    """Every figure under its protocol; those of single classes in a table of their own."""
    return [
        table
        for caption, of_class in (("Every figure", False), ("Figures of single classes", True))
        if (table := _figures(caption, of_class, tasks, columns)).rows
    ]


def _figures(caption: str, of_class: bool, tasks: Sequence[Task], columns: Mapping[str, Scores]) -> Table:
    rows = []
    for task in tasks:
        names = dict.fromkeys(name for scores in columns.values() for name in scores.get(task.name, {}))
        for name in names:
            if ("/" in name) == of_class:
                values = [scores.get(task.name, {}).get(name, math.nan) for scores in columns.values()]
                rows.append((task.name, name, *number_texts(values)))
    return Table(caption, ("task", "figure", *columns), tuple(rows), collapsed=True)


def run_columns(metrics: Metrics) -> dict[str, Scores]:
    """The scores of one run: before and after refinement, or just one column for a network without it."""
    if not metrics.initial:
        return {SCORE: metrics.final}
    return {INITIAL: metrics.initial, REFINED: metrics.final}


def coverage_table(tasks: Sequence[Task], partition: Partition, metrics: Metrics | None) -> Table:
    """How many images training saw a label of, per task, and how many it was scored on."""
    counts = partition.counts([task.name for task in tasks])
    images = len(partition.visible)
    rows = []
    for task in tasks:
        scored = "" if metrics is None else f"{metrics.images.get(task.name, 0):,}"
        share = f"{100 * counts[task.name] / images:.1f} %" if images else UNDEFINED
        rows.append((task.name, task.kind, f"{counts[task.name]:,}", f"{images:,}", share, scored))
    columns = ("task", "kind", "labelled for training", "training images", "share", "images scored on")
    keep = slice(None, None if metrics else -1)
    return Table("Labels that training saw", columns[keep], tuple(row[keep] for row in rows))
