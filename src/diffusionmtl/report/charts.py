"""How answers lie beside labels, drawn: what a kind counted (`tasks.charts`) as inline SVG in a page's own colours."""

import math
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Bool, Float, Int64

from diffusionmtl.report import plot
from diffusionmtl.report.content import Table
from diffusionmtl.report.diagram import Axis
from diffusionmtl.report.plot import percent
from diffusionmtl.tasks.charts import (
    LARGEST,
    RATIO_BINS,
    SMALLEST,
    AnswerCounts,
    ClassCounts,
    Counts,
    ErrorCounts,
    ValueCounts,
)

_CELLS = 52
_TAIL = 5e-4
_LONGEST_NAME = 20
_SMALLEST_SHARE = 0.005
_NUMBERED = 22.0
"""Cells of so many pixels have room for a number."""


@dataclass(frozen=True)
class Chart:
    """One drawn diagram.

    Attributes:
        svg: the drawing, with its words for those who do not see it.
        says: what it shows, in a sentence.
        table: the same as text, where a drawing alone would leave numbers out.
        width: that it needs in pixels to be legible; 0 if any will do.
    """

    title: str
    svg: str
    says: str
    table: Table | None = None
    width: float = 0.0


def chart(counts: Counts) -> Chart | None:
    """Whatever form the counts have; None where nothing was counted or the form is not known."""
    if not counts.counts.any():
        return None
    match counts:
        case ClassCounts():
            return _confusion(counts)
        case ValueCounts():
            return _scatter(counts)
        case ErrorCounts():
            return _errors(counts)
        case AnswerCounts():
            return _precision_recall(counts)
        case _:
            return None


def _confusion(of: ClassCounts) -> Chart:
    totals = of.counts.sum(axis=1)
    shares = of.counts / np.maximum(totals, 1)[:, None]
    worst = _most_confused(of, shares, totals)
    says = f"Most often taken for another: {'; '.join(worst)}." if worst else "No class is taken for another."
    size = float(np.clip(520 / len(of.names), 17, 44))
    svg, width = _matrix(of, shares, totals, size, says)
    return Chart("Confusion matrix", svg, says, _confusion_table(of, shares, totals), width)


def _most_confused(of: ClassCounts, shares: Float[np.ndarray, "k k"], totals: Int64[np.ndarray, "k"]) -> list[str]:
    """The three largest shares off the diagonal, of classes with a thousandth of the pixels or more."""
    wrong = np.where(np.eye(len(totals), dtype=bool), 0, shares) * (totals >= totals.sum() / 1000)[:, None]
    order = np.argsort(-wrong, axis=None, kind="stable")[:3]
    places = [np.unravel_index(at, wrong.shape) for at in order]
    return [
        f"{of.names[row]} for {of.names[column]}, {percent(wrong[row, column])}"
        for row, column in places
        if wrong[row, column] > 0
    ]


def _matrix(
    of: ClassCounts, shares: Float[np.ndarray, "k k"], totals: Int64[np.ndarray, "k"], size: float, says: str
) -> tuple[str, float]:
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in of.names]
    reach = 6.0 * max(map(len, names))
    left, top = reach + 30, 0.8 * reach + 30
    # Slanted names lean to the right, beyond the last column.
    width, height = left + size * len(names) + max(10.0, 0.6 * reach), top + size * len(names) + 8
    parts = [plot.text(left + size * len(names) / 2, 13.0, "predicted", "middle")]
    middle = top + size * len(names) / 2
    parts.append(f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">labelled</text>')
    for at, name in enumerate(names):
        centre = (at + 0.5) * size
        parts.append(plot.text(left - 6, top + centre + 4, name, "end"))
        place = f"translate({left + centre + 3:.1f} {top - 6:.1f}) rotate(-52)"
        parts.append(f'<text transform="{place}">{escape(name)}</text>')
        y = top + size * at
        parts.append(_matrix_row(shares[at], at, left, y, size) if totals[at] else _absent(left, y, size, len(names)))
    said = escape(f"Confusion matrix of {len(names)} classes. {says}")
    svg = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    return svg, width


def _matrix_row(shares: Float[np.ndarray, "k"], right: int, left: float, y: float, size: float) -> str:
    side = f"{size - 1:.1f}"
    # One path for all of them: of many classes nearly every cell is empty.
    empty = "".join(f"M{left + size * at:.1f} {y:.1f}h{side}v{side}h-{side}z" for at in np.flatnonzero(~_shown(shares)))
    cells = (
        _cell(shares[at], left + size * at, y, size, "right" if at == right else "wrong")
        for at in np.flatnonzero(_shown(shares))
    )
    return f'<path class="cell empty" d="{empty}"/>{"".join(cells)}'


def _shown(shares: Float[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
    return shares >= _SMALLEST_SHARE


def _cell(share: float, x: float, y: float, size: float, style: str) -> str:
    numbered = size >= _NUMBERED
    # Stronger colours would leave no ink that can be read on them by day and by night.
    strength = 0.06 + (0.39 if numbered else 0.94) * share
    drawn = (
        f'<rect class="cell {style}" x="{x:.1f}" y="{y:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}" '
        f'fill-opacity="{strength:.2f}"/>'
    )
    if not numbered:
        return drawn
    place = f'x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}"'
    return f'{drawn}<text class="share" {place} text-anchor="middle">{100 * share:.0f}</text>'


def _absent(x: float, y: float, size: float, many: int) -> str:
    row = f'<rect class="cell empty" x="{x:.1f}" y="{y:.1f}" width="{size * many - 1:.1f}" height="{size - 1:.1f}"/>'
    return row + plot.text(x + 6, y + size / 2 + 4, "no such label")


def _confusion_table(of: ClassCounts, shares: Float[np.ndarray, "k k"], totals: Int64[np.ndarray, "k"]) -> Table:
    rows = []
    for at, name in enumerate(of.names):
        others = [other for other in np.argsort(-shares[at], kind="stable") if other != at and shares[at, other] > 0][
            :2
        ]
        taken = ", ".join(f"{of.names[other]} {percent(shares[at, other])}" for other in others)
        right = percent(shares[at, at]) if totals[at] else "–"
        rows.append((name, percent(totals[at] / totals.sum()), right, taken))
    columns = ("class", "share of the pixels", "recognised", "most often taken for")
    return Table("The matrix in words", columns, tuple(rows), collapsed=True)


def _scatter(of: ValueCounts) -> Chart:
    low, high = _occupied(of.counts)
    step = math.ceil((high - low) / _CELLS)
    inner = _grouped(of.counts[low:high, low:high], step)
    edges = [_ratio_edge(min(low + step * at, high)) for at in range(len(inner) + 1)]
    x, y = plot.across(edges[0], edges[-1], True), plot.upwards(edges[0], edges[-1], True)
    top = math.log1p(inner.max())
    parts = [plot.frame(x, y, f"labelled, {of.unit}", f"predicted, {of.unit}")]
    for row, column in zip(*np.nonzero(inner), strict=True):
        strength = 0.06 + 0.94 * math.log1p(inner[row, column]) / top
        left, under = x(edges[row]), y(edges[column])
        wide, tall = x(edges[row + 1]) - left, under - y(edges[column + 1])
        parts.append(
            f'<rect class="cell right" x="{left:.1f}" y="{under - tall:.1f}" width="{wide + 0.2:.1f}" '
            f'height="{tall + 0.2:.1f}" fill-opacity="{strength:.2f}"/>'
        )
    ends = (edges[0], edges[-1])
    parts.append(plot.line("diagonal", ends, ends, (x, y)))
    for factor in (of.near, 1 / of.near):
        parts.append(_within(ends, factor, x, y))
    says = _scatter_words(of)
    return Chart("Predicted beside labelled", plot.drawing(says, parts), says)


def _within(ends: tuple[float, float], factor: float, x: Axis, y: Axis) -> str:
    """The line on which predictions are so many times their label, as far as it lies inside."""
    low, high = max(ends[0], ends[0] / factor), min(ends[1], ends[1] / factor)
    return plot.line("diagonal dashed", (low, high), (low * factor, high * factor), (x, y)) if low < high else ""


def _scatter_words(of: ValueCounts) -> str:
    """How predictions lie to their labels, by the middle half of their ratios; good to a bin, 4.7 %."""
    rows, columns = np.nonzero(of.counts)
    weights, difference = of.counts[rows, columns], columns - rows
    order = np.argsort(difference, kind="stable")
    passed = weights[order].cumsum() / weights.sum()
    quarter, half, most = (int(difference[order][np.searchsorted(passed, share)]) for share in (0.25, 0.5, 0.75))
    ratios = [(LARGEST / SMALLEST) ** (bins / RATIO_BINS) for bins in (quarter, half, most)]
    return (
        f"Half of the pixels are predicted at {ratios[0]:.2f} to {ratios[2]:.2f} times their label, the median at "
        f"{ratios[1]:.2f}. The stronger the colour, the more pixels, by their logarithm; on the line a prediction "
        f"is right, between the dotted ones it is less than {of.near:g} times off."
    )


def _occupied(counts: Int64[np.ndarray, "b b"]) -> tuple[int, int]:
    """The range of bins that holds all but a two-thousandth at either end."""
    both = counts.sum(axis=0) + counts.sum(axis=1)
    passed = both.cumsum() / both.sum()
    low, high = int(np.searchsorted(passed, _TAIL)), int(np.searchsorted(passed, 1 - _TAIL)) + 1
    return low, max(min(high, RATIO_BINS), low + 1)


def _grouped(counts: Int64[np.ndarray, "b b"], step: int) -> Int64[np.ndarray, "c c"]:
    starts = np.arange(0, len(counts), step)
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def _ratio_edge(at: int) -> float:
    return SMALLEST * (LARGEST / SMALLEST) ** (at / RATIO_BINS)


def _errors(of: ErrorCounts) -> Chart:
    counts = of.counts[0]
    below = np.concatenate([[0.0], counts.cumsum() / counts.sum()])
    last = max(int(np.searchsorted(below, 0.99)), math.ceil(1.15 * max(of.marks) / of.width))
    edges = [at * of.width for at in range(min(last, len(counts)) + 1)]
    x, y = plot.across(0.0, edges[-1]), plot.upwards(0.0, 1.0)
    parts = [plot.frame(x, y, f"error, {of.unit}", "share of pixels below")]
    shares = [float(np.interp(mark, np.arange(len(below)) * of.width, below)) for mark in of.marks]
    for mark, share in zip(of.marks, shares, strict=True):
        parts.append(f'<path class="axis dashed" d="M{x(mark):.1f} {y.start:g}V{y(share):.1f}"/>')
        parts.append(f'<circle class="point" cx="{x(mark):.1f}" cy="{y(share):.1f}" r="3.5"/>')
    parts.append(plot.line("line hue0", edges, below[: len(edges)].tolist(), (x, y)))
    median = float(np.interp(0.5, below, np.arange(len(below)) * of.width))
    said = ", ".join(f"{percent(share)} below {mark:g}" for mark, share in zip(of.marks, shares, strict=True))
    says = f"Half of the pixels are less than {median:.1f} {of.unit} off; {said}."
    return Chart("How large errors are", plot.drawing(says, parts), says)


def _precision_recall(of: AnswerCounts) -> Chart | None:
    wrong, right = (row[::-1].cumsum() for row in of.counts)
    if not right[-1]:
        return None
    recall, precision = right / right[-1], right / np.maximum(right + wrong, 1)
    seen = right + wrong > 0
    x, y = plot.across(0.0, 1.0), plot.upwards(0.0, 1.0)
    share = right[-1] / (right[-1] + wrong[-1])
    parts = [plot.frame(x, y, "recall", "precision")]
    parts.append(plot.line("diagonal dashed", (0.0, 1.0), (share, share), (x, y)))
    parts.append(plot.line("line hue0", recall[seen].tolist(), precision[seen].tolist(), (x, y)))
    half = len(recall) // 2 - 1
    words = "nothing is called so at one half"
    if seen[half]:
        parts.append(f'<circle class="point" cx="{x(recall[half]):.1f}" cy="{y(precision[half]):.1f}" r="3.5"/>')
        words = (
            f"at one half (the dot) {percent(precision[half])} of what is found is right, and "
            f"{percent(recall[half])} of all that is labelled so is found"
        )
    says = f"Over all thresholds of the probability: {words}. Chance is the dotted line, {percent(share)}."
    return Chart("Precision and recall", plot.drawing(says, parts), says)
