"""Line diagrams as inline SVG: no plotting library, a few kilobytes, in the reader's own text colour."""

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from diffusionmtl.report.content import Curve, Series

HUES = 4
_WIDTH, _HEIGHT = 380.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 12.0, 34.0
_MOST_POINTS = 240
_NOISY = 60
_LOG_RATIO = 30.0


def diagram(curve: Curve) -> str:
    """One `<svg>` with a line per series; empty text if no series has a point.

    A series of more than 60 points is drawn faintly, with its running mean on top; the mean decides the range. The y
    axis is logarithmic where the numbers are positive and span more than a factor of 30.
    """
    series = {label: line for label, line in curve.series.items() if line.x}
    if not series:
        return ""
    raw = [thinned(line) for line in series.values()]
    means = [running_mean(line) if len(line.x) > _NOISY else line for line in raw]
    shown = [y for line in means for y in line.y]
    logarithmic = min(shown) > 0 and max(shown) / min(shown) > _LOG_RATIO
    low = min(shown) if logarithmic else min(0.0, *shown)
    up = Axis(low, max(shown), _HEIGHT - _BOTTOM, _TOP, logarithmic)
    across = Axis(0.0, max(line.x[-1] for line in series.values()), _LEFT, _WIDTH - _RIGHT)
    parts = [_grid(across, up)]
    parts += [_path("raw", line, across, up) for line, mean in zip(raw, means, strict=True) if mean is not line]
    parts += [_path("line", line, across, up) for line in means]
    summary = escape(f"{curve.name}: " + "; ".join(_said(label, line) for label, line in series.items()))
    return f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{summary}">{"".join(parts)}</svg>'


def thinned(series: Series) -> Series:
    """At most 240 points: means over equally many neighbours."""
    size = math.ceil(len(series.x) / _MOST_POINTS)
    starts = range(0, len(series.x), max(1, size))
    return replace(
        series,
        x=tuple(_mean(series.x[start : start + size]) for start in starts),
        y=tuple(_mean(series.y[start : start + size]) for start in starts),
    )


def running_mean(series: Series) -> Series:
    """Centred means over about a twentieth of the points, fewer at the ends."""
    reach = max(1, len(series.y) // 40)
    return replace(series, y=tuple(_mean(series.y[max(0, i - reach) : i + reach + 1]) for i in range(len(series.y))))


class Axis:
    """Where numbers stand between `start` and `end` of the paper, linearly or by their logarithm."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool = False) -> None:
        if high <= low:
            high = low + (abs(low) or 1.0)
        self.low, self.high = low, high
        self.start, self.end = start, end
        self.logarithmic = logarithmic
        self.ticks = log_ticks(low, high) if logarithmic else nice_ticks(low, high)

    def __call__(self, value: float) -> float:
        """The place of a value; those beyond the range stand at its ends."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers within low..high, 1, 2 or 5 times a power of ten apart, about as many as asked for."""
    wanted = (high - low) / about
    power = 10.0 ** math.floor(math.log10(wanted))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / wanted)))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high, thinned to at most six."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    while len(ticks) > 6:
        ticks = ticks[::2]
    return ticks


def _grid(across: Axis, up: Axis) -> str:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for tick in up.ticks:
        parts.append(f'<path class="grid" d="M{_LEFT:g} {up(tick):.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text x="{_LEFT - 7:g}" y="{up(tick) + 4:.1f}" text-anchor="end">{_tick_text(tick)}</text>')
    for tick in across.ticks:
        x = across(tick)
        anchor = "end" if x > _WIDTH - _RIGHT - 10 else "middle"
        parts.append(f'<path class="axis" d="M{x:.1f} {floor:g}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 17:g}" text-anchor="{anchor}">{_tick_text(tick)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT:g} {floor:g}H{_WIDTH - _RIGHT:g}"/>')
    return "".join(parts)


def _tick_text(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"


def _path(kind: str, series: Series, across: Axis, up: Axis) -> str:
    places = [(across(x), up(y)) for x, y in zip(series.x, series.y, strict=True)]
    style = f"{kind} hue{series.hue % HUES}{' dashed' if series.dashed else ''}"
    if len(places) == 1:
        return f'<circle class="dot {style}" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3"/>'
    return f'<path class="{style}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'


def _said(label: str, series: Series) -> str:
    lowest = min(range(len(series.y)), key=series.y.__getitem__)
    first, last = f"{series.y[0]:.4g}", f"{series.y[-1]:.4g}"
    return f"{label} from {first} to {last}, lowest {series.y[lowest]:.4g} at step {series.x[lowest]:.0f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
