"""Diagrams show what the numbers say."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.report.content import Curve, Series
from diffusionmtl.report.diagram import Axis, diagram, log_ticks, nice_ticks, running_mean, thinned

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(low=NUMBERS, span=st.floats(1e-3, 1e6))
def test_ticks_are_round_within_the_range_and_neither_few_nor_many(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    assert low - 1e-6 * span <= ticks[0]
    assert ticks[-1] <= low + span * (1 + 1e-6)
    step = ticks[1] - ticks[0]
    if abs(low) < 1e3 * span:
        leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - nice) for nice in (1, 2, 5)) < 1e-3


def test_known_ticks() -> None:
    assert nice_ticks(0.0, 2.0) == [0, 0.5, 1, 1.5, 2]
    assert nice_ticks(0.0, 1999.0) == [0, 500, 1000, 1500]
    assert log_ticks(0.02, 3.0) == pytest.approx([0.02, 0.1, 0.5, 2])


def test_an_axis_maps_ends_to_ends_and_clamps() -> None:
    axis = Axis(0.0, 10.0, 100.0, 0.0)
    assert tuple(map(axis, (0.0, 10.0, 5.0, -3.0, 99.0))) == (100, 0, 50, 100, 0)
    decades = Axis(0.01, 100.0, 0.0, 4.0, logarithmic=True)
    assert [round(decades(v), 9) for v in (0.01, 0.1, 1.0, 10.0, 100.0)] == [0, 1, 2, 3, 4]
    flat = Axis(3.0, 3.0, 0.0, 1.0)
    assert 0 <= flat(3.0) <= 1


@given(st.lists(NUMBERS, min_size=1, max_size=2000))
def test_thinning_keeps_the_mean_and_order(values: list[float]) -> None:
    series = Series(tuple(map(float, range(len(values)))), tuple(values), hue=2)
    thin = thinned(series)
    assert len(thin.x) <= 240
    assert list(thin.x) == sorted(thin.x)
    assert thin.hue == 2
    assert min(values) - 1e-6 <= min(thin.y)
    assert max(thin.y) <= max(values) + 1e-6


def test_a_running_mean_of_a_line_is_the_line_inside() -> None:
    series = Series(tuple(map(float, range(200))), tuple(2.0 * i for i in range(200)))
    mean = running_mean(series)
    assert mean.y[5:-5] == pytest.approx(series.y[5:-5])


def drawn(series: dict[str, Series], name: str = "depth") -> ElementTree.Element:
    return ElementTree.fromstring(diagram(Curve(name, "loss", series)))


def test_lines_go_down_where_numbers_fall() -> None:
    svg = drawn({"held out": Series((0.0, 50.0, 100.0), (2.0, 1.0, 0.5), hue=1)})
    line = next(path for path in svg.iter("path") if "line" in path.attrib["class"])
    assert "hue1" in line.attrib["class"]
    places = [tuple(map(float, point.split())) for point in re.split("[ML]", line.attrib["d"])[1:]]
    assert len(places) == 3
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[0][1] < places[1][1] < places[2][1], "y of a picture grows downwards"
    assert "from 2 to 0.5" in svg.attrib["aria-label"]


def test_a_noisy_series_gets_its_mean_and_stays_small() -> None:
    steps = tuple(map(float, range(5000)))
    svg = diagram(Curve("total", "loss", {"training": Series(steps, tuple(1.0 + (i % 7) for i in range(5000)))}))
    classes = [path.attrib["class"] for path in ElementTree.fromstring(svg).iter("path")]
    assert [c.split()[0] for c in classes if c.split()[0] in ("raw", "line")] == ["raw", "line"]
    assert len(svg) < 12_000


def test_one_point_is_a_dot_and_none_is_nothing() -> None:
    assert len(list(drawn({"dev": Series((3.0,), (0.5,))}).iter("circle"))) == 1
    assert diagram(Curve("depth", "loss", {"dev": Series((), ())})) == ""
    assert diagram(Curve("depth", "loss", {})) == ""


def test_hostile_names_stay_text() -> None:
    svg = drawn({'"><script>': Series((0.0, 1.0), (1.0, 2.0))}, name="a\"b<c>&'d")
    assert "<script>" in svg.attrib["aria-label"]
    assert not list(svg.iter("script"))
