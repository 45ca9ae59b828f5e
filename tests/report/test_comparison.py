"""Tables, CSV and figure of a comparison whose scores are made up."""

import csv
import io
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from diffusionmtl.inference.per_image import FINAL, INITIAL, PerImage
from diffusionmtl.report.comparison import Comparison, Row, comparison_csv
from diffusionmtl.report.comparison_text import comparison_figure, comparison_text, few_seeds, write_comparison
from diffusionmtl.tasks import Depth, SemanticSegmentation

DEPTH, SEMSEG = Depth("depth"), SemanticSegmentation("semseg", classes=("a", "b"))
TASKS = (SEMSEG, DEPTH)
IMAGES = 8
COST = {"params": 1e6, "gmac": 0.5, "steps": 100.0, "seconds": 60.0}


def one_part(iou: float, error: float) -> tuple[dict, dict]:
    """Scores of 8 images that are all alike, and what each adds."""
    iou = float(iou)
    alike = {
        "depth": np.tile([10.0, 10 * error], (IMAGES, 1)),
        # of each class `iou` right, and 100 labelled and found in all
        "semseg": np.tile([iou, iou, (100 + iou) / 2, (100 + iou) / 2, (100 + iou) / 2, (100 + iou) / 2], (IMAGES, 1)),
    }
    scores = {
        "semseg": {"mIoU@pooled": iou, "IoU@pooled/a": iou, "IoU@pooled/b": iou},
        "depth": {"absErr@pooled": error, "rmse@pooled": 2 * error},
    }
    return scores, {task: PerImage(tuple(range(IMAGES)), statistics) for task, statistics in alike.items()}


def row(method, seed=0, labels="one", iou=40.0, error=1.0, before=None, **more) -> Row:
    final, of_final = one_part(iou, error)
    initial, of_initial = one_part(*before) if before else ({}, {})
    cost = COST | more.pop("cost", {})
    per_image = {FINAL: of_final, **({INITIAL: of_initial} if before else {})}
    return Row(labels, method, seed, "done", "", cost, final, initial, per_image, **more)


ROWS = (
    row("singletask", 0, iou=40, error=1.0, cost={"params": 5e6}),
    row("singletask", 1, iou=50, error=1.0, cost={"params": 5e6}),
    row("multitask", 0, iou=36, error=1.1),
    row("multitask", 1, iou=45, error=1.1),
    row("feature", 0, iou=44, error=0.9, before=(40, 1.0)),
    row("feature", 1, iou=60, error=0.9, before=(50, 1.0)),
    row("multitask", 0, labels="random", iou=60, error=0.5),
    row("feature", 0, labels="random", iou=66, error=0.5),
    Row("random", "feature", 1, "failed", "step 3: the loss is not finite"),
)
COMPARISON = Comparison(TASKS, ROWS)


def read(comparison=COMPARISON) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(comparison_csv(comparison))))


def test_the_statistics_of_these_tests_are_right():
    for one in ROWS[:6]:
        for task in TASKS:
            pooled = one.per_image[FINAL][task.name].statistics.sum(axis=0, keepdims=True)
            figure = task.meter().headline(torch.from_numpy(pooled))
            assert float(figure[0]) == pytest.approx(one.final[task.name][task.headline])


def test_each_seed_is_held_against_the_reference_of_its_own_labels_and_seed():
    gain = COMPARISON.method_gain("one", "feature", "singletask")
    assert gain.seeds == pytest.approx(((10 + 10) / 2, (20 + 10) / 2))
    assert gain.mean == pytest.approx(12.5)
    assert (gain.low, gain.high) == pytest.approx((12.5, 12.5)), "all images are alike"
    assert COMPARISON.method_gain("one", "feature", "singletask", INITIAL).seeds == pytest.approx((0, 0))
    assert COMPARISON.method_gain("one", "multitask", "multitask").seeds == (0, 0)
    assert COMPARISON.method_gain("random", "feature", "multitask").seeds == pytest.approx((5,))
    assert COMPARISON.method_gain("random", "feature", "singletask") is None


def test_a_seed_without_its_reference_does_not_count():
    gain = Comparison(TASKS, ROWS[1:]).method_gain("one", "feature", "singletask")
    assert gain.seeds == pytest.approx((15,))


def test_scores_without_statistics_or_of_other_images_have_no_interval():
    bare = [Row(r.labels, r.method, r.seed, r.state, "", r.cost, r.final) for r in ROWS]
    other = [*ROWS[:5], row("feature", 1, iou=60, error=0.9)]
    fewer = PerImage(tuple(range(4)), other[5].per_image[FINAL]["depth"].statistics[:4])
    other[5] = Row(
        "one",
        "feature",
        1,
        "done",
        "",
        COST,
        other[5].final,
        {},
        {FINAL: {**other[5].per_image[FINAL], "depth": fewer}},
    )
    for rows in (bare, other):
        gain = Comparison(TASKS, tuple(rows)).method_gain("one", "feature", "singletask")
        assert gain.mean == pytest.approx(12.5)
        assert math.isnan(gain.low) and math.isnan(gain.high)


def test_the_csv_has_a_line_per_row_and_a_column_per_figure():
    lines = read()
    assert [(line["labels"], line["method"], line["seed"]) for line in lines] == [
        (r.labels, r.method, str(r.seed)) for r in ROWS
    ]
    first = lines[5]
    assert [first[c] for c in ("semseg:mIoU@pooled", "depth:absErr@pooled", "depth:rmse@pooled")] == [
        "60",
        "0.9",
        "1.8",
    ]
    assert not any("IoU@pooled/" in column for column in first)
    assert float(first["delta_m_vs_singletask"]) == pytest.approx(15)
    assert float(first["initial_delta_m_vs_singletask"]) == pytest.approx(0)
    assert float(first["delta_m_vs_multitask"]) == pytest.approx((100 / 3 + 100 * 0.2 / 1.1) / 2, rel=1e-5)
    assert [first[c] for c in ("params", "gmac", "steps", "seconds")] == ["1000000", "0.5", "100", "60"]
    assert lines[2]["initial_delta_m_vs_singletask"] == ""
    assert lines[-1]["state"] == "failed" and "not finite" in lines[-1]["reason"]
    assert lines[-1]["semseg:mIoU@pooled"] == lines[-1]["delta_m_vs_multitask"] == ""


def test_the_text_tells_mean_spread_interval_cost_and_failure():
    text = comparison_text(COMPARISON)
    assert "| feature | 52.00 ± 11.31 | 0.9000 ± 0.0000 |" in text
    assert "+12.50 ± 3.54 [+12.50, +12.50]" in text
    assert "**Not at equal cost**: singletask against multitask: parameters +400 %." in text
    assert text.count("**Not at equal cost**") == 1
    assert "feature, seed 1: failed: step 3: the loss is not finite" in text
    assert "8 of 9 rows are done" in text
    for heading in ("## Labels: one", "## Labels: random"):
        assert heading in text


def test_fewer_than_three_seeds_are_warned_of():
    def of(*seeds: int) -> Comparison:
        return Comparison(TASKS, tuple(row(method, seed) for method in ("multitask", "feature") for seed in seeds))

    assert few_seeds(of(0)).startswith("1 seed(s): ") and "--seeds 0 1 2" in few_seeds(of(0, 1))
    assert "--seeds 7 8 0 or more adds to what is there" in few_seeds(of(7, 8))
    assert few_seeds(of(0, 1, 2)) == "" == few_seeds(Comparison(TASKS, ()))
    more = Comparison(TASKS, (*of(0, 1, 2).rows, row("xtc", 0)))
    assert few_seeds(more).startswith("1 seed(s) for some methods")
    assert "**Few seeds**: 1 seed(s) for some methods" in comparison_text(more)
    assert "Few seeds" not in comparison_text(of(0, 1, 2))


def test_a_cost_that_is_not_known_is_a_dash_and_no_warning():
    unknown = row("feature")
    unknown = Row("one", "feature", 0, "done", "", {"steps": 100.0, "seconds": 60.0}, unknown.final)
    comparison = Comparison(TASKS, (row("multitask"), unknown))
    text = comparison_text(comparison)
    assert "| feature | – | – | 100 | 60 |" in text and "Not at equal cost" not in text
    assert read(comparison)[1]["params"] == "" and "nan" not in text


def test_an_equal_cost_within_a_fifth_is_no_warning():
    rows = (row("multitask"), row("feature", cost={"seconds": 71.0}), row("slow", cost={"seconds": 73.0}))
    text = comparison_text(Comparison(TASKS, rows))
    assert "slow against multitask: training time +22 %" in text
    assert "feature against" not in text


def test_what_is_undefined_is_said():
    nan = float("nan")
    final = {
        "semseg": {"mIoU@pooled": 50.0, "IoU@pooled/a": 50.0, "IoU@pooled/b": nan},
        "depth": {"absErr@pooled": nan},
    }
    odd = Row("one", "feature", 0, "done", "", COST, final)
    comparison = Comparison(TASKS, (row("singletask"), odd))
    text = comparison_text(comparison)
    assert "feature, seed 0: depth undefined and left out of Δm" in text
    assert (
        "semseg: class b occurs in no label and no prediction, and is left out of the mean, for feature, seed 0" in text
    )
    assert comparison.method_gain("one", "feature", "singletask").seeds == (25.0,)
    assert "nan" not in text and "nan" not in comparison_csv(comparison)


@pytest.mark.parametrize("rows", [(), ROWS[-1:], ROWS[4:6]], ids=["none", "failed", "no reference"])
def test_little_to_tell_is_told_without_a_figure(tmp_path, rows):
    path = write_comparison(tmp_path, Comparison(TASKS, rows))
    assert path.read_text().startswith("# Comparison")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["comparison.csv", "comparison.md"]


def test_the_figure_shows_each_seed_mean_and_interval(tmp_path):
    write_comparison(tmp_path, COMPARISON)
    root = ElementTree.fromstring((tmp_path / "comparison.svg").read_text())
    shapes = [e.get("class") for e in root.iter() if e.get("class") in ("seed", "bar", "mean", "initial")]
    # One of each in the key; multitask and feature under one label; nothing under random, which has no single-task run.
    assert {name: shapes.count(name) for name in set(shapes)} == {
        "seed": 1 + 4,
        "bar": 1 + 2,
        "mean": 1 + 2,
        "initial": 1 + 1,
    }
    said = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert "feature" in said and "+12.50" in said and "Labels: one" in said and "Labels: random" not in said


def test_names_are_escaped():
    rows = (row("singletask"), row("<b>&", iou=44))
    root = ElementTree.fromstring(comparison_figure(Comparison(TASKS, rows)))
    assert "<b>&" in [e.text for e in root.iter() if e.tag.endswith("text")]
