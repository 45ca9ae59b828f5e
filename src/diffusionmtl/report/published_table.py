"""A run's figures beside those in print, on the benchmarks; what was measured otherwise is marked, never mixed in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffusionmtl.data.cityscapes import cityscapes_tasks
from diffusionmtl.report.content import Table
from diffusionmtl.report.published_results import (
    TASKS,
    PublishedFigure,
    PublishedRow,
    gain_over,
    recomputed_delta_m,
    reference_rows,
)
from diffusionmtl.report.tables import REFINED, SCORE, UNDEFINED, Scores
from diffusionmtl.tasks import Task
from diffusionmtl.tasks.published import nyud_tasks, pascal_context_tasks

OURS, OURS_TOGETHER = "this run", "ours"
OTHER_PROTOCOL = "†"
INFERRED = "?"
EDGE_IMAGES = 2498


@dataclass(frozen=True)
class Setting:
    """Under what a network was trained and scored, where tables in print exist for the same.

    Attributes:
        benchmark: as `benchmark_of` says.
        labels: one, random or full.
        source: where the partition comes from.
    """

    benchmark: str
    labels: str
    source: str = ""


@dataclass(frozen=True)
class BesidePublished:
    """A table and what a reader must know to judge it."""

    table: Table
    notes: tuple[str, ...]


def benchmark_of(data: Sequence[str], split: str, tasks: Sequence[Task]) -> str | None:
    """The benchmark whose tables a run may stand beside: its validation split, alone, with its own tasks; else None."""
    published = {
        "pascal-context": pascal_context_tasks(),
        "nyud": nyud_tasks(),
        "cityscapes": cityscapes_tasks(),
    }
    if len(data) != 1 or data[0] not in published or split != "val":
        return None
    meanings = {task.name: task.meaning() for task in published[data[0]]}
    return data[0] if all(meanings.get(task.name) == task.meaning() for task in tasks) else None


def label_setting(labels: str, source: str) -> str | None:
    """One, random or full, from the words of `--labels` and those of the partition about itself; None if none tells."""
    if labels in ("one", "random", "full"):
        return labels
    if labels == "as-found":
        return "full"
    words = source.lower()
    return next((word for word in ("one", "random", "full") if f"{word} label" in words or words == word), None)


def setting_of(data: Sequence[str], split: str, tasks: Sequence[Task], labels: str, source: str) -> Setting | None:
    """Under what a run may stand beside tables in print; None if it may not.

    Args:
        data, split: what it was scored on.
        tasks: of the run.
        labels: the words of `--labels`.
        source: those of the partition about itself.
    """
    benchmark, shown = benchmark_of(data, split, tasks), label_setting(labels, source)
    return None if benchmark is None or shown is None else Setting(benchmark, shown, source)


def beside_published(
    setting: Setting, tasks: Sequence[Task], columns: Mapping[str, Scores], images: Mapping[str, int], who: str = OURS
) -> BesidePublished | None:
    """The rows in print for the benchmark and labels, one's own scores on top; None if nothing is in print.

    Args:
        tasks: of the networks.
        columns: their scores by name; a row each.
        images: per task, how many images were scored.
        who: what one's own rows are called; the name of the column follows, but for that of a run's own score.
    """
    rows = reference_rows(setting.benchmark, setting.labels)
    if not rows:
        return None
    names = [name for name in TASKS if name in rows[0].figures]
    usual = {name: rows[0].figures[name].protocol for name in names}
    better = {task.name: task.higher_is_better for task in tasks}
    heads = [f"{name}\u00a0{usual[name]}" for name in names]
    words = {name: who if name in (SCORE, REFINED) else f"{who}, {name}" for name in columns}
    own = [_own_row(words[name], scores, usual, rows[0], names, better) for name, scores in columns.items()]
    printed = [_row(row, names, usual) for row in rows]
    caption = f"Beside what is in print for {setting.benchmark}, {setting.labels} labels"
    head = ("method", "backbone", *heads, "Δm in print", "Δm from the figures")
    table = Table(caption, head, (*own, *printed), frozenset((row, 0) for row in range(len(own))))
    return BesidePublished(table, tuple(_notes(setting, rows, images, who)))


def _own_row(
    words: str,
    scores: Scores,
    usual: Mapping[str, str],
    reference: PublishedRow,
    names: Sequence[str],
    mine: Mapping[str, bool],
) -> tuple[str, ...]:
    values = {task: scores.get(task, {}).get(usual[task], math.nan) for task in names}
    known = {task: value for task, value in values.items() if task in mine and math.isfinite(value)}
    # A mean over fewer tasks than in print is another number.
    gain = _signed(gain_over(reference, known)) if known.keys() == set(names) else UNDEFINED
    return (words, "", *(_number(task, values[task]) for task in names), UNDEFINED, gain)


def _row(row: PublishedRow, names: Sequence[str], usual: Mapping[str, str]) -> tuple[str, ...]:
    cells = [_cell(task, row.figures.get(task), usual[task]) for task in names]
    size = "" if row.parameters is None else f"; {row.parameters:g}M parameters"
    cost = "" if row.gmac is None else f", {row.gmac:g}G multiply-adds"
    said = f"{row.method}\n{row.source}{size}{cost}"
    return (said, row.backbone, *cells, _signed(row.delta_m), _signed(recomputed_delta_m(row)))


def _cell(task: str, figure: PublishedFigure | None, usual: str) -> str:
    if figure is None:
        return UNDEFINED
    other = OTHER_PROTOCOL if figure.protocol != usual else ""
    return f"{_number(task, figure.value)}{other}{'' if figure.certain else INFERRED}"


def _number(task: str, value: float) -> str:
    if not math.isfinite(value):
        return UNDEFINED
    return f"{value:.4f}" if task == "depth" else f"{value:.2f}"


def _signed(percent: float | None) -> str:
    return UNDEFINED if percent is None else f"{percent:+.2f}".replace("-", "−")


def _notes(setting: Setting, rows: Sequence[PublishedRow], images: Mapping[str, int], who: str) -> list[str]:
    usual = rows[0].figures
    others = {
        f"{task} {figure.protocol} ({row.method})"
        for row in rows
        for task, figure in row.figures.items()
        if figure.protocol != usual[task].protocol
    }
    notes = []
    if others:
        notes.append(
            f"{OTHER_PROTOCOL} another protocol, not to be compared with its column: {', '.join(sorted(others))}."
        )
    if any(not figure.certain for row in rows for figure in row.figures.values()):
        notes.append(f"{INFERRED} the protocol is inferred; nobody says which it was.")
    if rows[0].method == "Single-Task":
        notes.append(f"Δm of {who} is over the Single-Task row in print, under the protocols of the columns.")
    if not setting.source.startswith("published partition"):
        said = "saw other labels than those in print: the partition is not the published file."
        notes.append(f"{who[0].upper()}{who[1:]} {said}")
    edges = images.get("edge")
    if setting.benchmark == "pascal-context" and edges not in (None, EDGE_IMAGES):
        notes.append(
            f"odsF in print is over {EDGE_IMAGES:,} images of the validation set, that of {who} over {edges:,}."
        )
    return notes
