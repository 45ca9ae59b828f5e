"""A comparison on a benchmark shows its methods beside the figures in print."""

import dataclasses
import math

import numpy as np

from diffusionmtl.inference.per_image import FINAL, PerImage
from diffusionmtl.report.comparison import Comparison, Row
from diffusionmtl.report.comparison_print import comparison_beside_print
from diffusionmtl.report.comparison_text import comparison_text
from diffusionmtl.report.published_table import Setting
from diffusionmtl.tasks.published import pascal_context_tasks

PUBLISHED = "published partition of PASCAL-Context, one label [527915d7728b4e9c]"
EDGES = PerImage(tuple(range(7)), np.zeros((7, 0)))
FIGURES = {
    "semseg": {"mIoU@pooled": 90.0, "mIoU@published": 50.34},
    "human_parts": {"mIoU@published": 59.05},
    "sal": {"maxF@pooled19": 90.0, "maxF@published": 77.43},
    "normals": {"mErr@pooled": 16.59},
    "edge": {"odsF@seism-0.0075": 64.40},
}


def row(method: str, seed: int = 0, labels: str = "one", notes=(), **semseg: float) -> Row:
    final = {**FIGURES, "semseg": semseg} if semseg else FIGURES
    cost = dict.fromkeys(("params", "gmac", "steps", "seconds"), 1.0)
    return Row(labels, method, seed, "done", "", cost, final, {}, {FINAL: {"edge": EDGES}}, notes)


def comparison(*rows: Row, **settings: Setting) -> Comparison:
    return Comparison(pascal_context_tasks(), rows, settings or {"one": Setting("pascal-context", "one", PUBLISHED)})


def shown(*rows: Row) -> dict[str, dict[str, str]]:
    beside = comparison_beside_print(comparison(*rows), "one")
    assert beside is not None
    names = [column.split("\u00a0")[0] for column in beside.table.columns]
    return {line[0].split("\n")[0]: dict(zip(names, line, strict=True)) for line in beside.table.rows}


def test_a_method_is_shown_under_the_protocols_in_print_as_the_mean_of_its_seeds():
    ours = {"mIoU@pooled": 99.0, "mIoU@published": 52.34}
    found = shown(row("feature", 0), row("feature", 1, **ours), row("multitask"))
    assert list(found)[:3] == ["ours, feature, mean of 2 seeds", "ours, multitask", "Single-Task"]
    assert found["ours, feature, mean of 2 seeds"]["semseg"] == "51.34"
    assert found["ours, feature, mean of 2 seeds"]["Δm from the figures"] == f"+{100 / 50.34 / 5:.2f}"
    assert found["ours, multitask"]["Δm from the figures"] == "+0.00"
    assert found["DiffusionMTL Feature"]["sal"] == "77.82?" and found["SS"]["sal"] == "61.70†?"


def test_no_other_protocol_takes_the_place_of_a_figure_that_is_missing():
    mine = shown(row("feature", **{"mIoU@pooled": 60.0}))["ours, feature"]
    assert (mine["semseg"], mine["Δm from the figures"]) == ("–", "–")
    one_undefined = shown(row("feature"), row("feature", 1, **{"mIoU@published": math.nan}))
    assert one_undefined["ours, feature, mean of 2 seeds"]["semseg"] == "–"


def test_upper_bounds_and_failed_rows_stay_out():
    failed = dataclasses.replace(row("multitask"), state="failed", final={})
    assert [name for name in shown(row("feature"), row("full-feature"), failed) if "ours" in name] == ["ours, feature"]
    assert comparison_beside_print(comparison(row("full-feature"), failed), "one") is None


def test_each_label_setting_has_its_own_rows_in_print_and_data_of_ones_own_none():
    two = comparison(
        row("feature"),
        row("feature", labels="mine"),
        row("feature", labels="drawn"),
        one=Setting("pascal-context", "one", PUBLISHED),
        drawn=Setting("pascal-context", "random", "random labels per image, seed 0"),
    )
    assert comparison_beside_print(two, "mine") is None
    text = comparison_text(two)
    assert text.count("Beside what is in print") == 2
    assert "for pascal-context, one labels" in text and "for pascal-context, random labels" in text
    assert text.count("Ours saw other labels than those in print") == 1
    assert "in print is over 2,498 images of the validation set, that of ours over 7" in text
    assert "Beside what is in print" not in comparison_text(Comparison(two.tasks, two.rows))


def test_what_must_be_known_of_the_data_is_said_once():
    text = comparison_text(comparison(row("feature", notes=("normals count everywhere",)), row("multitask")))
    assert text.count("normals count everywhere") == 1
