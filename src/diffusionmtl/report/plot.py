"""The frame that square diagrams of a page share: axes with their words, lines, and text, as inline SVG."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from diffusionmtl.report.diagram import Axis

WIDTH, HEIGHT = 340.0, 310.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, WIDTH - 12.0, 12.0, HEIGHT - 48.0
_SMALLEST_DOT, _LARGEST_DOT = 1.7, 7.0


def across(low: float, high: float, logarithmic: bool = False) -> Axis:
    """The axis below a diagram."""
    return Axis(low, high, LEFT, RIGHT, logarithmic)


def upwards(low: float, high: float, logarithmic: bool = False) -> Axis:
    """The axis beside a diagram."""
    return Axis(low, high, BOTTOM, TOP, logarithmic)


def drawing(summary: str, parts: Iterable[str]) -> str:
    """The whole of it; `summary` says it in words."""
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(summary)}">{"".join(parts)}</svg>'


def frame(x: Axis, y: Axis, below: str, beside: str) -> str:
    """Grid, ticks and what the axes mean."""
    parts = []
    for tick in y.ticks:
        parts.append(f'<path class="grid" d="M{x.start:g} {y(tick):.1f}H{x.end:g}"/>')
        parts.append(text(x.start - 7, y(tick) + 4, f"{tick:.3g}", "end"))
    for tick in x.ticks:
        parts.append(f'<path class="axis" d="M{x(tick):.1f} {y.start:g}v4"/>')
        parts.append(text(x(tick), y.start + 17, f"{tick:.3g}", "end" if x(tick) > WIDTH - 20 else "middle"))
    parts.append(f'<path class="axis" d="M{x.start:g} {y.start:g}H{x.end:g}"/>')
    parts.append(text((x.start + x.end) / 2, HEIGHT - 10, below, "middle"))
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>'
    )
    return "".join(parts)


def line(style: str, x: Sequence[float], y: Sequence[float], axes: tuple[Axis, Axis]) -> str:
    """Through finite points; nothing without any."""
    places = [
        f"{axes[0](a):.1f} {axes[1](b):.1f}" for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)
    ]
    return f'<path class="{style}" d="M{"L".join(places)}"/>' if places else ""


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def dot_radius(share: float) -> float:
    """Of a dot that stands for a share of the pixels: its area grows with that."""
    return _SMALLEST_DOT + (_LARGEST_DOT - _SMALLEST_DOT) * share**0.5


def percent(share: float) -> str:
    """`12 %`, `0.3 %`; a share that is not known is a dash."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:.1f} %" if 0 < 100 * share < 9.95 else f"{100 * share:.0f} %"
