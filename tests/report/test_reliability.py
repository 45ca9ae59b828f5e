"""The picture of uncertainties says what was measured."""

from xml.etree import ElementTree

from diffusionmtl.inference.uncertainty import DRAWS, ENTROPY, Reliability, Uncertainty
from diffusionmtl.metrics.sparsification import FRACTIONS
from diffusionmtl.report.reliability import reliability_figure

FALLING = tuple(1 - 0.5 * x for x in FRACTIONS)
ORACLE = tuple(max(0.0, 1 - 2 * x) for x in FRACTIONS)
BEFORE = Reliability(0.25, 0.7, (0.5, 0.5), (0.3, 0.9), (0.1, 0.6))
AFTER = Reliability(0.0125, 0.5, (0.5, 0.5), (0.1, 0.6), (0.1, 0.6))


def measured(unit: str, probability: bool, before: Reliability | None, after: Reliability | None) -> Uncertainty:
    curves = {DRAWS: FALLING, ENTROPY: ORACLE}
    return Uncertainty(2, 100, 0.3, unit, probability, ORACLE, 0.6, curves, {DRAWS: 0.234, ENTROPY: 0.0}, before, after)


def test_a_row_per_task_with_every_number():
    tasks = {
        "semseg": measured("wrong", True, BEFORE, AFTER),
        "depth": measured("m", False, BEFORE, None),
        "normals": measured("degrees", False, None, None),
    }
    root = ElementTree.fromstring(reliability_figure("runs/<a> & b", tasks))
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "runs/<a> & b" in words and set(tasks) <= set(words)
    assert words.count("draws: 0.234") == words.count("chance: 0.600") == 3
    assert "before: 0.25" in words and "after: 0.0125" in words and "before: 0.25 m" in words
    assert "expected error, m" in words and any("no spread that states an error" in word for word in words)
    dots = [dot.get("class") for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert dots.count("after") == 2 + 1 and dots.count("before") == 2 * (2 + 1)
    assert "AUSE of draws 0.234" in root.get("aria-label", "")


def test_nothing_is_no_picture():
    assert reliability_figure("x", {}) == ""
