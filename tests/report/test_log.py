"""Logs and scores as runs leave them, whole, sparse, damaged or missing."""

import json
import math
from pathlib import Path

import pytest

from diffusionmtl.errors import UserError
from diffusionmtl.report.log import curves_of, read_log, read_metrics
from diffusionmtl.runfolder import RunFolder

HEAD = "dev/final/depth,dev/total,epoch,step,train/final/depth,train/total\n"
FIRST = ",,0,9,0.9,1.8\n,,0,19,0.8,1.6\n0.85,1.7,0,24,,\n"


def logged(tmp_path: Path, **texts: str) -> RunFolder:
    run = RunFolder(tmp_path)
    run.log.mkdir()
    for name, text in texts.items():
        (run.log / f"{name.replace('_', '-')}.csv").write_text(text)
    return run


def test_cells_are_put_together_by_column(tmp_path: Path) -> None:
    log = read_log(logged(tmp_path, metrics=HEAD + FIRST))
    assert log.values["train/total"] == ((9.0, 19.0), (1.8, 1.6))
    assert log.values["dev/final/depth"] == ((24.0,), (0.85,))
    assert set(log.values) == {"dev/final/depth", "dev/total", "train/final/depth", "train/total"}
    assert log.series("train/final/nothing").x == ()


def test_what_is_no_finite_number_is_left_out(tmp_path: Path) -> None:
    log = read_log(logged(tmp_path, metrics=HEAD + "nan,inf,0,9,,soup\n,,0,,1,1\n,,0,-4,1,1\n,,0,19,0.5,\n"))
    assert log.values == {"train/final/depth": ((19.0,), (0.5,))}


@pytest.mark.parametrize("cut", range(1, len(FIRST)))
def test_a_truncated_log_gives_what_it_has(tmp_path: Path, cut: int) -> None:
    log = read_log(logged(tmp_path, metrics=HEAD + FIRST[:cut]))
    whole = FIRST[:cut].count("\n")
    for x, _ in log.values.values():
        assert set(x) <= {9.0, 19.0, 24.0}
    if whole >= 1:
        assert log.values["train/total"][1][0] == 1.8


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n1,2\n", '"unclosed\n1,2', "step\x00,train/total\n", HEAD])
def test_a_log_without_numbers_is_empty(tmp_path: Path, text: str) -> None:
    assert read_log(logged(tmp_path, metrics=text)).values == {}


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert read_log(RunFolder(tmp_path / "nowhere")).values == {}


def test_a_resumed_run_goes_on_and_its_new_numbers_win(tmp_path: Path) -> None:
    run = logged(tmp_path, metrics=HEAD + FIRST)
    run.set_log_aside()
    (run.log / "metrics.csv").write_text("epoch,step,train/total\n0,19,1.5\n1,29,1.4\n")
    run.set_log_aside()
    assert sorted(path.name for path in run.log.iterdir()) == ["metrics-001.csv", "metrics-002.csv"]
    (run.log / "metrics.csv").write_text("epoch,step,train/total\n1,29,1.3\n")
    assert read_log(run).values["train/total"] == ((9.0, 19.0, 29.0), (1.8, 1.5, 1.3))


def test_curves_of_one_run_and_of_two(tmp_path: Path) -> None:
    text = "epoch,step,train/total,train/final/depth,train/initial/depth,dev/final/depth\n0,9,1,2,3,4\n"
    log = read_log(logged(tmp_path, metrics=text))
    objective, depth = curves_of({"": log}, ["depth", "normals"])
    assert objective.name == "objective"
    assert objective.series["training"].y == (1.0,)
    assert depth.name == "depth"
    assert {label: series.y for label, series in depth.series.items() if series.y} == {
        "training": (2.0,),
        "held out": (4.0,),
        "initial, training": (3.0,),
    }
    _, depth = curves_of({"old": log, "new": log}, ["depth"])
    assert list(depth.series) == ["old, training", "old, held out", "new, training", "new, held out"]
    assert depth.series["old, training"].hue != depth.series["new, training"].hue


SCORES = {
    "format": 1,
    "data": ["rooms"],
    "split": "val",
    "samples": 4,
    "seed": 3,
    "checkpoint": "last",
    "images": {"depth": 12},
    "final": {"depth": {"absErr@pooled": 0.25, "rmse@pooled": None}},
    "initial": {},
}


def test_scores_come_back_and_null_is_undefined(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_metrics(run) is None
    run.metrics.write_text(json.dumps(SCORES))
    metrics = read_metrics(run)
    assert metrics is not None
    assert metrics.final["depth"]["absErr@pooled"] == 0.25
    assert math.isnan(metrics.final["depth"]["rmse@pooled"])
    assert (metrics.images, metrics.initial, metrics.samples, metrics.data) == ({"depth": 12}, {}, 4, ("rooms",))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": 1', json.dumps({**SCORES, "format": 2}), json.dumps({**SCORES, "final": [1]})],
)
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text(text)
    with pytest.raises(UserError, match="metrics.json.*diffusionmtl evaluate") as caught:
        read_metrics(run)
    assert "\n" not in str(caught.value)
