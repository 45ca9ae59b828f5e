"""A chart says in words what it draws, and both are what was counted."""

from xml.etree import ElementTree

import numpy as np
import pytest

from diffusionmtl.inference.uncertainty import DRAWS, ENTROPY
from diffusionmtl.report.charts import Chart, chart
from diffusionmtl.report.plot import RIGHT, TOP
from diffusionmtl.report.trust import line_keys, reliability_chart, sparsification_chart
from diffusionmtl.tasks.charts import RATIO_BINS, AnswerCounts, ClassCounts, Counts, ErrorCounts, ValueCounts
from tests.report.test_reliability import AFTER, BEFORE, measured

CONFUSED = ClassCounts(np.array([[90, 10, 0], [40, 60, 0], [0, 0, 0]]), ("<wall>", "floor", "chair"))


def drawn(counts: Counts) -> tuple[Chart, ElementTree.Element]:
    found = chart(counts)
    assert found is not None
    return found, ElementTree.fromstring(found.svg)


def of_style(root: ElementTree.Element, style: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if style in (one.get("class") or "").split()]


def test_a_confusion_matrix_has_a_cell_per_pair_and_names_the_worst():
    found, root = drawn(CONFUSED)
    assert found.says == "Most often taken for another: floor for <wall>, 40 %; <wall> for floor, 10 %."
    numbers = [one.text for one in root.iter("text") if (one.text or "").isdigit()]
    assert numbers == ["90", "10", "40", "60"], "shares of each row"
    assert "no such label" in [one.text for one in root.iter("text")]
    assert len(of_style(root, "right")) == len(of_style(root, "wrong")) == 2
    assert found.table is not None
    assert found.table.rows[1] == ("floor", "50 %", "60 %", "<wall> 40 %")
    assert found.table.rows[2] == ("chair", "0 %", "–", "")


def test_a_matrix_of_forty_classes_has_no_room_for_numbers():
    # As large as it is, it costs little where nothing is confused.
    found, root = drawn(ClassCounts(np.eye(40, dtype=np.int64), tuple(f"class {i}" for i in range(40))))
    assert found.says == "No class is taken for another."
    assert not [one for one in root.iter("text") if (one.text or "").isdigit()]
    assert found.width > 600
    assert len(found.svg) < 80_000


def test_a_scatter_shows_the_range_that_holds_pixels():
    counts = np.zeros((RATIO_BINS, RATIO_BINS), dtype=np.int64)
    for at in range(200, 240):
        counts[at, at + 15] = 100
    found, root = drawn(ValueCounts(counts, "m", 1.25))
    assert "at 2.00 to 2.00 times their label, the median at 2.00" in found.says
    cells = of_style(root, "cell")
    assert 20 < len(cells) < 60
    assert all(0 <= float(cell.get("x", "-1")) <= 340 and 0 <= float(cell.get("y", "-1")) <= 310 for cell in cells)


def test_a_cell_of_a_scatter_is_as_wide_as_the_bins_counted_in_it():
    counts = np.zeros((RATIO_BINS, RATIO_BINS), dtype=np.int64)
    for at in range(100, 252):  # 152 bins, three to a cell and two left for the last
        counts[at, at] = 100
    _, root = drawn(ValueCounts(counts, "m", 1.25))
    first, *_, last = (float(cell.get("width", "")) for cell in of_style(root, "cell"))
    assert last / first == pytest.approx(2 / 3, abs=0.05)


def test_errors_are_read_off_at_the_marks():
    counts = np.zeros((1, 720), dtype=np.int64)
    counts[0, :80] = 1  # evenly from 0 to 20 degrees
    found, root = drawn(ErrorCounts(counts, "degrees", 0.25, (5.0, 10.0, 30.0)))
    (line,) = of_style(root, "line")
    assert line.get("d", "").endswith(f"{RIGHT:.1f} {TOP:.1f}"), "as far as the axis"
    assert (
        found.says == "Half of the pixels are less than 10.0 degrees off; 25 % below 5, 50 % below 10, 100 % below 30."
    )


def test_precision_and_recall_at_one_half():
    counts = np.zeros((2, 100), dtype=np.int64)
    counts[0, [10, 60]] = 30, 10
    counts[1, [40, 90]] = 20, 40
    found, root = drawn(AnswerCounts(counts))
    assert "80 % of what is found is right, and 67 % of all" in found.says and "60 %" in found.says
    assert len(of_style(root, "point")) == 1
    assert chart(AnswerCounts(np.array([[5] * 100, [0] * 100]))) is None, "without a yes there is no recall"


@pytest.mark.parametrize(
    "counts", [Counts(np.ones((1, 1), dtype=int)), ClassCounts(np.zeros((2, 2), dtype=int), ("a", "b"))]
)
def test_what_nobody_can_draw_is_left_out(counts):
    assert chart(counts) is None


def test_reliability_before_and_after_and_doubts_in_order():
    found = measured("wrong", True, BEFORE, AFTER)
    reliable, finding = reliability_chart(found), sparsification_chart(found)
    assert reliable is not None and finding is not None
    assert reliable.says == "Calibration error 0.25 before, 0.0125 after calibration."
    root = ElementTree.fromstring(reliable.svg)
    assert len(of_style(root, "before")) == len(of_style(root, "after")) == 2
    assert "AUSE 0.000; chance 0.600" in finding.says
    assert finding.table is not None
    assert [cells[1] for cells in finding.table.rows] == ["0.000", "0.234", "0.600"]
    assert len(of_style(ElementTree.fromstring(finding.svg), "line")) == 3
    assert len(line_keys([found])) == len({DRAWS, ENTROPY, "oracle"})


def test_nothing_stated_is_no_chart():
    assert reliability_chart(measured("m", False, None, None)) is None
    alone = reliability_chart(measured("m", False, BEFORE, None))
    assert alone is not None and alone.says == "Calibration error 0.25 m, not calibrated."
