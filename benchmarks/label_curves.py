"""What labels buy: a line per way of choosing them, a dot per seed, as one SVG."""

from collections.abc import Mapping, Sequence
from html import escape

from diffusionmtl.report.diagram import Axis

_WIDTH, _HEIGHT = 760.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 150.0, 64.0, 52.0
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 12px }
.title { font-weight: 600; font-size: 15px } .grid { stroke: #e3e0d8 } .tick { text-anchor: middle }
.number { text-anchor: end } .line { fill: none; stroke-width: 2.4; stroke-linejoin: round } .dot { opacity: 0.45 }
.h0 { --hue: #14748a } .h1 { --hue: #c2582b } .h2 { --hue: #7a4fa3 } .h3 { --hue: #6b7a1f }
.line { stroke: var(--hue) } .dot, .mean { fill: var(--hue) } .word { fill: var(--hue); font-weight: 600 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab } .grid { stroke: #31373d }
  .h0 { --hue: #63c1d4 } .h1 { --hue: #f0956a } .h2 { --hue: #bd9be0 } .h3 { --hue: #b9c860 }
}
"""
_HUES = 4
_LINE = 18.0

Point = tuple[float, float]


def label_curves(title: str, unit: str, curves: Mapping[str, Sequence[Sequence[Point]]]) -> str:
    """A picture of its own, readable on light and on dark paper; empty text if there is nothing to draw.

    Args:
        unit: of the numbers upwards; those across are labels.
        curves: per way of choosing, per seed, (labels, gain) by round.
    """
    curves = {name: [_numbers(line) for line in seeds] for name, seeds in curves.items()}
    every = [point for seeds in curves.values() for line in seeds for point in line]
    if not every:
        return ""
    lowest, highest = min(0.0, *(y for _, y in every)), max(0.0, *(y for _, y in every))
    room = 0.05 * (highest - lowest or 1.0)
    across = Axis(min(x for x, _ in every), max(x for x, _ in every), _LEFT, _WIDTH - _RIGHT)
    up = Axis(lowest - room, highest + room, _HEIGHT - _BOTTOM, _TOP)
    means = {name: _means(seeds) for name, seeds in curves.items() if seeds}
    parts = [_grid(across, up, unit, sorted({x for line in means.values() for x, _ in line}))]
    ends = _apart({name: up(line[-1][1]) for name, line in means.items()})
    for number, (name, line) in enumerate(means.items()):
        parts.append(f'<g class="h{number % _HUES}">{_curve(name, line, curves[name], across, up, ends[name])}</g>')
    said = "; ".join(f"{name}: {line[-1][1]:+.1f} with {line[-1][0]:g} labels" for name, line in means.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" '
        f'height="{_HEIGHT:g}" role="img" aria-label="{escape(f"{title}: {said}")}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH:g}" height="{_HEIGHT:g}"/>'
        f'<text class="title" x="14" y="24">{escape(title)}</text>'
        f'<text class="soft" x="14" y="44">line: mean over seeds; dot: one seed</text>{"".join(parts)}</svg>\n'
    )


def _numbers(line: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in line]


def _means(seeds: Sequence[Sequence[Point]]) -> list[Point]:
    """Over the seeds, round by round, as far as every seed has come; a seed may have a label more than another."""
    rounds = min(len(line) for line in seeds)
    columns = [[line[number] for line in seeds] for number in range(rounds)]
    return [(sum(x for x, _ in of) / len(of), sum(y for _, y in of) / len(of)) for of in columns]


def _grid(across: Axis, up: Axis, unit: str, labels: Sequence[float]) -> str:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for tick in up.ticks:
        y = up(tick)
        word = f"{tick:+g}".replace("-", "−") if abs(tick) > 1e-9 else "0"
        parts.append(f'<path class="grid" d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text class="soft number" x="{_LEFT - 8:g}" y="{y + 4:.1f}">{word}</text>')
    for x in labels:
        parts.append(f'<path class="grid" d="M{across(x):.1f} {floor:g}v6"/>')
        parts.append(f'<text class="soft tick" x="{across(x):.1f}" y="{floor + 20:g}">{x:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="soft tick" x="{middle:g}" y="{floor + 40:g}">labels</text>')
    parts.append(f'<text class="soft" x="{_WIDTH - _RIGHT + 14:g}" y="{_TOP - 8:g}">{escape(unit)}</text>')
    return "".join(parts)


def _curve(
    name: str, line: Sequence[Point], seeds: Sequence[Sequence[Point]], across: Axis, up: Axis, end: float
) -> str:
    path = "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line)
    dots = [f'<circle class="dot" cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.6"/>' for of in seeds for x, y in of]
    marks = [f'<circle class="mean" cx="{across(x):.1f}" cy="{up(y):.1f}" r="4.2"/>' for x, y in line]
    number = f"{line[-1][1]:+.1f}".replace("-", "−")
    word = f'<text class="word" x="{across(line[-1][0]) + 12:.1f}" y="{end + 4:.1f}">{escape(name)} {number}</text>'
    return f'<path class="line" d="{path}"/>{"".join(dots + marks)}{word}'


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Heights of words, moved down where they would lie on each other."""
    found: dict[str, float] = {}
    last = float("-inf")
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        last = found[name] = max(y, last + _LINE)
    return found
