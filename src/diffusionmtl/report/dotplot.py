"""Gains as a picture: a row per method, a dot per seed, the mean and its interval; one panel per group, as SVG."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from diffusionmtl.report.diagram import nice_ticks

_WIDTH, _LABEL, _WIDEST_LABEL, _RIGHT = 760.0, 190.0, 340.0, 84.0
_CHARACTER = 7.4
_TOP, _ROW, _PANEL_HEAD, _AXIS, _BETWEEN = 58.0, 30.0, 30.0, 26.0, 16.0
_DOTS_ABOVE = 7.5

# The report's colours by day and by night; a file of its own has to bring them along.
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 12px } .head { font-weight: 600 }
.title { font-weight: 600; font-size: 15px } .grid { stroke: #e3e0d8 } .zero { stroke: #5d666e }
.bar { stroke: #14748a; stroke-width: 5; stroke-linecap: round; opacity: 0.3 } .mean { fill: #14748a }
.seed { fill: none; stroke: #14748a; stroke-width: 1.3 } .initial { fill: #c2582b }
.number { font-variant-numeric: tabular-nums; text-anchor: end } .tick { text-anchor: middle }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab }
  .grid { stroke: #31373d } .zero { stroke: #9ba4ab } .bar, .seed { stroke: #63c1d4 } .mean { fill: #63c1d4 }
  .initial { fill: #f0956a }
}
"""


@dataclass(frozen=True)
class Dots:
    """One row.

    Attributes:
        seeds: a number per seed.
        low, high: of the interval; NaN if there is none.
        initial: the mean before refinement; None without it.
    """

    seeds: tuple[float, ...]
    low: float
    high: float
    initial: float | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.seeds) / len(self.seeds)

    def numbers(self) -> list[float]:
        """All that is drawn."""
        every = [*self.seeds, self.low, self.high, *([] if self.initial is None else [self.initial])]
        return [number for number in every if math.isfinite(number)]


def dotplot(title: str, unit: str, panels: Mapping[str, Mapping[str, Dots]]) -> str:
    """A picture of its own, readable on light and on dark paper; empty text if there is nothing to draw.

    Args:
        title: what the numbers are.
        unit: of them, under each axis.
        panels: per group the rows, by name. All panels share one scale.
    """
    drawn = {name: rows for name, rows in panels.items() if rows}
    numbers = [number for rows in drawn.values() for dots in rows.values() for number in dots.numbers()]
    if not numbers:
        return ""
    longest = max(len(row) for rows in drawn.values() for row in rows)
    left = min(max(_LABEL, 24 + _CHARACTER * longest), _WIDEST_LABEL)
    across = _Scale(min(0.0, *numbers), max(0.0, *numbers), left)
    y = _TOP
    parts = []
    for name, rows in drawn.items():
        parts.append(_panel(name, rows, across, y, unit))
        y += _PANEL_HEAD + _ROW * len(rows) + _AXIS + _BETWEEN
    refined = any(dots.initial is not None for rows in drawn.values() for dots in rows.values())
    head = f'<text class="title" x="14" y="24">{escape(title)}</text>{_key(refined)}'
    said = escape(
        "; ".join(f"{panel}, {row}: {dots.mean:+.1f}" for panel, of in drawn.items() for row, dots in of.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {y:g}" width="{_WIDTH:g}" height="{y:g}" '
        f'role="img" aria-label="{escape(title)}: {said}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH:g}" height="{y:g}"/>{head}{"".join(parts)}</svg>\n'
    )


class _Scale:
    """Places of numbers between the names and the figures at the right."""

    def __init__(self, low: float, high: float, left: float) -> None:
        self.left = left
        room = 0.04 * (high - low or 1.0)
        self.low, self.high = low - room, high + room
        self.ticks = nice_ticks(self.low, self.high, about=6)

    def __call__(self, number: float) -> float:
        share = (number - self.low) / (self.high - self.low)
        return self.left + share * (_WIDTH - _RIGHT - self.left)


def _key(refined: bool) -> str:
    y = 44.0
    words = [
        (f'<circle class="mean" cx="20" cy="{y - 4:g}" r="5"/>', 30, "mean"),
        (f'<path class="bar" d="M78 {y - 4:g}h24"/>', 112, "95 % interval over images"),
        (f'<circle class="seed" cx="282" cy="{y - 4:g}" r="3"/>', 291, "one seed"),
    ]
    if refined:
        words.append((_diamond("initial", 364.0, y - 4), 374, "mean before refinement"))
    return "".join(f'{mark}<text class="soft" x="{x}" y="{y:g}">{text}</text>' for mark, x, text in words)


def _panel(name: str, rows: Mapping[str, Dots], across: _Scale, top: float, unit: str) -> str:
    floor = top + _PANEL_HEAD + _ROW * len(rows)
    parts = [f'<text class="head" x="14" y="{top + 19:g}">{escape(name)}</text>']
    for tick in across.ticks:
        style = "zero" if abs(tick) < 1e-9 else "grid"
        parts.append(f'<path class="{style}" d="M{across(tick):.1f} {top + _PANEL_HEAD - 4:g}V{floor:g}"/>')
        number = f"{tick:+g}".replace("-", "−") if abs(tick) > 1e-9 else "0"
        parts.append(f'<text class="soft tick" x="{across(tick):.1f}" y="{floor + 16:g}">{number}</text>')
    parts.append(f'<text class="soft number" x="{_WIDTH - 14:g}" y="{floor + 16:g}">{escape(unit)}</text>')
    middles = (top + _PANEL_HEAD + _ROW * (number + 0.5) for number in range(len(rows)))
    parts += [_row(row, dots, across, y) for (row, dots), y in zip(rows.items(), middles, strict=True)]
    return "".join(parts)


def _row(name: str, dots: Dots, across: _Scale, y: float) -> str:
    parts = [f'<text x="14" y="{y + 4.5:g}">{escape(name)}</text>']
    if math.isfinite(dots.low) and math.isfinite(dots.high):
        parts.append(f'<path class="bar" d="M{across(dots.low):.1f} {y:g}H{across(dots.high):.1f}"/>')
    if len(dots.seeds) > 1:
        parts += [
            f'<circle class="seed" cx="{across(seed):.1f}" cy="{y - _DOTS_ABOVE:g}" r="3"/>' for seed in dots.seeds
        ]
    if dots.initial is not None:
        parts.append(_diamond("initial", across(dots.initial), y + _DOTS_ABOVE))
    parts.append(f'<circle class="mean" cx="{across(dots.mean):.1f}" cy="{y:g}" r="5"/>')
    number = f"{dots.mean:+.2f}".replace("-", "−")
    return "".join([*parts, f'<text class="number" x="{_WIDTH - 14:g}" y="{y + 4.5:g}">{number}</text>'])


def _diamond(style: str, x: float, y: float) -> str:
    return f'<path class="{style}" d="M{x:.1f} {y - 4:g}l4 4l-4 4l-4 -4z"/>'
