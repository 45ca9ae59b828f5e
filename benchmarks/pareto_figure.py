"""Accuracy against cost as one SVG: a panel per unit of cost, a dot per method, a line along the front."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from diffusionmtl.report.diagram import Axis

Mark = tuple[str, float, float, float, float]
"""Name, cost, accuracy, and its lowest and highest over seeds."""

_CELL, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 470.0, 400.0, 58.0, 96.0, 78.0, 56.0
_LINE = 15.0
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 12px }
.title { font-weight: 600; font-size: 15px } .grid { stroke: #e3e0d8 } .tick { text-anchor: middle }
.number { text-anchor: end } .front { fill: none; stroke: #14748a; stroke-width: 1.6; stroke-dasharray: 5 4 }
.best { fill: #14748a } .other { fill: #8b949b } .bar { stroke: #8b949b; opacity: 0.6 } .word { font-size: 12px }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab } .grid { stroke: #31373d }
  .front { stroke: #63c1d4 } .best { fill: #63c1d4 }
}
"""


@dataclass(frozen=True)
class Panel:
    """Accuracy against one sort of cost.

    Attributes:
        unit: of the cost.
        marks: one per method; costs are positive.
        front: places in `marks` of those that nothing beats, cheapest first.
    """

    unit: str
    marks: Sequence[Mark]
    front: Sequence[int]


def pareto_figure(title: str, panels: Sequence[Panel]) -> str:
    """A picture of its own, readable on light and on dark paper. Costs are on logarithmic axes."""
    width = _CELL * len(panels)
    cells = "".join(f'<g transform="translate({_CELL * at:g} 0)">{_panel(each)}</g>' for at, each in enumerate(panels))
    said = "; ".join(f"{each.unit}: {', '.join(each.marks[at][0] for at in each.front)}" for each in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {_HEIGHT:g}" width="{width:g}" '
        f'height="{_HEIGHT:g}" role="img" aria-label="{escape(f"{title}. Nothing beats, by {said}")}">'
        f'<style>{_STYLE}</style><rect class="paper" width="{width:g}" height="{_HEIGHT:g}"/>'
        f'<text class="title" x="14" y="24">{escape(title)}</text>'
        f'<text class="soft" x="14" y="44">mean over seeds, from the worst to the best of them; '
        f"blue: nothing is cheaper and better</text>{cells}</svg>\n"
    )


def _panel(panel: Panel) -> str:
    low, high = min(x for _, x, *_ in panel.marks), max(x for _, x, *_ in panel.marks)
    bottom, top = min(y for *_, y, _ in panel.marks), max(y for *_, y in panel.marks)
    room = 0.08 * (top - bottom or 1.0)
    floor, right = _HEIGHT - _BOTTOM, _CELL - _RIGHT
    across = Axis(low / 1.25, high * 1.25, _LEFT, right, logarithmic=True)
    up = Axis(bottom - room, top + room, floor, _TOP)
    parts = [_grid(across, up)]
    parts.append(f'<text class="soft tick" x="{(_LEFT + right) / 2:g}" y="{floor + 40:g}">{escape(panel.unit)}</text>')
    parts.append(f'<text class="soft" x="{_LEFT:g}" y="{_TOP - 10:g}">Δm</text>')
    line = "L".join(f"{across(panel.marks[at][1]):.1f} {up(panel.marks[at][2]):.1f}" for at in panel.front)
    parts.append(f'<path class="front" d="M{line}"/>')
    heights = _apart([(across(x), up(y)) for _, x, y, *_ in panel.marks])
    for at, ((name, cost, value, worst, best), height) in enumerate(zip(panel.marks, heights, strict=True)):
        x, style = across(cost), "best" if at in panel.front else "other"
        parts.append(f'<path class="bar" d="M{x:.1f} {up(worst):.1f}V{up(best):.1f}"/>')
        parts.append(f'<circle class="{style}" cx="{x:.1f}" cy="{up(value):.1f}" r="4.5"/>')
        parts.append(f'<text class="word" x="{x + 9:.1f}" y="{height + 4:.1f}">{escape(name)}</text>')
    return "".join(parts)


def _grid(across: Axis, up: Axis) -> str:
    floor, right = _HEIGHT - _BOTTOM, _CELL - _RIGHT
    parts = []
    for x in across.ticks:
        parts.append(f'<path class="grid" d="M{across(x):.1f} {_TOP:g}V{floor:g}"/>')
        parts.append(f'<text class="soft tick" x="{across(x):.1f}" y="{floor + 18:g}">{x:g}</text>')
    for y in up.ticks:
        parts.append(f'<path class="grid" d="M{_LEFT:g} {up(y):.1f}H{right:g}"/>')
        parts.append(f'<text class="soft number" x="{_LEFT - 8:g}" y="{up(y) + 4:.1f}">{_signed(y)}</text>')
    return "".join(parts)


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Heights of words beside dots, moved down where two of them would lie on each other."""
    heights = [y for _, y in places]
    for at in sorted(range(len(places)), key=lambda at: places[at][1]):
        above = [heights[o] for o, (x, y) in enumerate(places) if o != at and abs(x - places[at][0]) < 110]
        while any(abs(heights[at] - h) < _LINE for h in above if h <= heights[at]):
            heights[at] += 1
    return heights
