"""How sure a network is and how right, drawn for a page: reliability and sparsification of one task as inline SVG."""

from collections.abc import Mapping, Sequence

from diffusionmtl.inference.uncertainty import (
    CALIBRATED_ENTROPY,
    CLASSES,
    DRAWS,
    ENTROPY,
    EXPECTED,
    MIRROR,
    Reliability,
    Uncertainty,
)
from diffusionmtl.metrics.sparsification import FRACTIONS
from diffusionmtl.report import plot
from diffusionmtl.report.charts import Chart
from diffusionmtl.report.content import Table

_ORACLE, _CHANCE = "oracle", "chance"
_STYLES = {
    DRAWS: "line hue0",
    ENTROPY: "line hue1",
    CALIBRATED_ENTROPY: "line hue3",
    EXPECTED: "line hue3 dashed",
    MIRROR: "line hue2",
    CLASSES: "line hue1 dashed",
    _ORACLE: "line plain dashed",
}
_WORDS = {
    DRAWS: "spread of the draws",
    ENTROPY: "entropy of one draw",
    CALIBRATED_ENTROPY: "its entropy, calibrated",
    EXPECTED: "expected error",
    MIRROR: "difference to the mirror image",
    CLASSES: "entropy of the classes",
    _ORACLE: "the errors themselves, which nothing beats",
    _CHANCE: "knowing nothing",
}


def reliability_chart(found: Uncertainty) -> Chart | None:
    """What is stated beside what came of it, before and after calibration; None if nothing is stated."""
    drawn = {word: seen for word, seen in (("before", found.before), ("after", found.after)) if seen is not None}
    if not drawn:
        return None
    unit = "" if found.probability else f", {found.unit}"
    below, beside = (
        ("stated probability", "how often it came true") if found.probability else ("expected error", "mean error")
    )
    high = 1.0 if found.probability else max(seen.largest for seen in drawn.values())
    x, y = plot.across(0.0, high), plot.upwards(0.0, high)
    parts = [plot.frame(x, y, f"{below}{unit}", f"{beside}{unit}")]
    parts.append(plot.line("diagonal", (0.0, high), (0.0, high), (x, y)))
    for word, seen in drawn.items():
        for share, stated, came in zip(seen.share, seen.stated, seen.came, strict=True):
            place = f'cx="{x(stated):.1f}" cy="{y(came):.1f}"'
            parts.append(f'<circle class="{word}" {place} r="{plot.dot_radius(share):.1f}"/>')
    return Chart("Reliability", plot.drawing(says := _reliability_words(found, drawn), parts), says)


def _reliability_words(found: Uncertainty, drawn: Mapping[str, Reliability]) -> str:
    unit = "" if found.probability else f" {found.unit}"
    errors = [f"{seen.error:.3g}{unit} {word}" for word, seen in drawn.items()]
    said = (
        f"Calibration error {', '.join(errors)} calibration"
        if len(drawn) > 1
        else (f"Calibration error {drawn['before'].error:.3g}{unit}, not calibrated")
    )
    return f"{said}."


def sparsification_chart(found: Uncertainty) -> Chart | None:
    """The error of the pixels that stay when the most uncertain are taken away; None without an uncertainty."""
    curves = {**found.curves, _ORACLE: found.oracle}
    finite = [value for curve in curves.values() for value in curve if value == value]
    if not found.curves or not finite:
        return None
    x, y = plot.across(0.0, 1.0), plot.upwards(0.0, min(max(1.05, *finite), 2.0))
    parts = [plot.frame(x, y, "share of pixels taken away", "error of the rest")]
    parts.append(plot.line("diagonal", (0.0, 1.0), (1.0, 1.0), (x, y)))
    parts += [plot.line(_STYLES.get(name, "line hue0"), FRACTIONS, curve, (x, y)) for name, curve in curves.items()]
    best = min(found.ause, key=found.ause.__getitem__)
    says = f"Best at finding errors: {_WORDS.get(best, best)}, AUSE {found.ause[best]:.3f}; chance {found.chance:.3f}."
    return Chart("Whether doubt finds errors", plot.drawing(says, parts), says, _areas(found))


def _areas(found: Uncertainty) -> Table:
    ordered = sorted({**found.ause, _CHANCE: found.chance}.items(), key=lambda item: item[1])
    rows = tuple((_WORDS.get(name, name), f"{area:.3f}") for name, area in ordered)
    return Table("Area above the errors' own curve (AUSE, 0 is best)", ("uncertainty", "AUSE"), rows, collapsed=True)


def line_keys(found: Sequence[Uncertainty]) -> list[tuple[str, str]]:
    """Styles and words of the lines that sparsification charts of these tasks have."""
    names = [name for name in _STYLES if name == _ORACLE or any(name in one.curves for one in found)]
    return [(_STYLES[name], _WORDS[name]) for name in names]
