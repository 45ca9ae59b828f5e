"""From run folders with a small network to a page, end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from diffusionmtl.build import build_network, describe_run
from diffusionmtl.config import Settings, changed
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.report.collect import PictureSettings, read_run, report_of_comparison, report_of_run
from diffusionmtl.report.content import TRAINING_IMAGE, UNSEEN_IMAGE
from diffusionmtl.report.examples import covering_images, examples, spread_images
from diffusionmtl.report.page import render
from diffusionmtl.report.provenance import repeat_command, settings_table
from diffusionmtl.report.tables import gain, gain_text, headline_table, number_texts
from diffusionmtl.runfolder import RunFolder
from tests.toy import TASK_NAMES, TASKS, ToyDataset

PICTURES = PictureSettings(training=2, unseen=1, samples=2)
SMALL = {"backbone": "resnet10t", "width": 8, "attention_heads": 2, "blocks": 1, "size": (32, 32), "labels": "one"}


def settings(method: str) -> Settings:
    return changed(Settings(), method=method, data=("toy",), **SMALL)


def make_run(folder: Path, method: str, score: float) -> Path:
    run = RunFolder(folder)
    said = settings(method)
    run.log.mkdir(parents=True)
    network = build_network(TASKS, said.network)
    save_network(network, run.checkpoints / "last.safetensors", describe_run(said, TASKS))
    run.config.write_text(yaml.safe_dump(describe_run(said, TASKS)))
    make_partition("one", ToyDataset(), 0).save(run.partition)
    (run.log / "metrics.csv").write_text("epoch,step,train/total,train/final/depth\n0,9,1.5,0.5\n0,19,1.25,0.25\n")
    final = {task.name: {task.headline: score, "other@all": None} for task in TASKS}
    initial = {task.name: {task.headline: 40.0} for task in TASKS} if method == "feature" else {}
    scores = {"format": 1, "data": ["toy"], "split": "val", "samples": 4, "seed": 0, "checkpoint": "last"}
    images = dict.fromkeys(TASK_NAMES, 8)
    run.metrics.write_text(json.dumps({**scores, "images": images, "final": final, "initial": initial}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "feature": make_run(root / "feature <b>", "feature", 50.0),
        "multitask": make_run(root / "multitask", "multitask", 40.0),
    }


def test_a_run_becomes_a_page(folders: dict[str, Path]) -> None:
    calls: list[tuple[int, int]] = []
    report = report_of_run(
        folders["feature"],
        ToyDataset(),
        ToyDataset(4),
        pictures=PICTURES,
        facts={"training time": "4 min"},
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [example.where for example in report.examples] == [UNSEEN_IMAGE, TRAINING_IMAGE, TRAINING_IMAGE]
    assert [curve.name for curve in report.curves] == ["objective", "depth"]
    assert report.provenance["training time"] == "4 min"
    assert make_partition("one", ToyDataset(), 0).digest() in report.provenance["labels"]
    assert report.coverage is not None
    assert sum(int(row[2]) for row in report.coverage.rows) == 8
    assert report.tables[0].columns == ("task", "initial", "refined")
    assert report.highlights[0][1] == "absErr@pooled of depth, lower is better", "how good comes before how much better"
    assert any(note.endswith("chance: semseg, depth, normals, saliency, edge on 8 images.") for note in report.notes)
    text = render(report)
    assert "feature &lt;b&gt;" in text
    assert "@pooled" in text


def test_a_comparison_is_against_the_first_and_shows_the_last(folders: dict[str, Path]) -> None:
    report = report_of_comparison(
        [("baseline", folders["multitask"]), ("ours", folders["feature"])],
        unseen=ToyDataset(4),
        pictures=PICTURES,
        command="do it",
    )
    table = report.tables[0]
    assert table.columns == ("task", "baseline", "ours, initial", "ours")
    better = sum(1 if task.higher_is_better else -1 for task in TASKS)
    assert table.rows[-1][1:] == ("0", "+0.00 %", gain_text(25.0 * better / len(TASKS)))
    assert report.highlights[0] == (gain_text(25.0 * better / len(TASKS)), "Δm of ours against baseline")
    panel = report.examples[0].panels[0]
    assert list(panel.others) == ["baseline"]
    assert panel.initial is not None
    assert panel.seen is None
    assert report.command == "do it"
    assert "do it" in render(report)
    assert [label for label in report.curves[0].series if "ours" in label] == ["ours, training", "ours, held out"]
    with pytest.raises(ValueError, match="two or more"):
        report_of_comparison([("one", folders["feature"])])


def test_a_run_that_is_not_finished_has_a_report(folders: dict[str, Path], tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_bytes(RunFolder(folders["feature"]).config.read_bytes())
    report = report_of_run(tmp_path, ToyDataset(), ToyDataset())
    assert report.examples == ()
    assert report.coverage is None
    assert len(report.notes) == 2
    render(report)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        read_run(tmp_path)


def predictor(method: str = "feature") -> Predictor:
    return Predictor(build_network(TASKS, settings(method).network), (32, 32))


def test_only_what_training_saw_is_shown_as_seen() -> None:
    dataset = ToyDataset(annotated={1: ["depth"]})
    partition = Partition({"image 0": frozenset({"depth"}), "image 1": frozenset({"depth"})}, "by hand")
    first, second = examples(predictor(), dataset, [0, 1], partition, samples=2)
    seen = {panel.task: panel.seen is not None for panel in first.panels}
    assert seen == {name: name == "depth" for name in TASK_NAMES}
    assert all(panel.truth is not None for panel in first.panels)
    depth = next(panel for panel in first.panels if panel.task == "depth")
    assert depth.seen is not None
    assert np.array_equal(depth.seen, depth.truth)
    assert "absErr@pooled of this image: initial " in depth.caption
    assert all(panel.truth is None for panel in second.panels), "training saw every annotation of it"
    hidden = next(panel for panel in second.panels if panel.task == "normals")
    assert (hidden.seen, hidden.caption) == (None, "")


def test_spread_and_initial_are_there_when_the_network_has_them() -> None:
    dataset = ToyDataset(1)
    for panel in examples(predictor(), dataset, [0], samples=2)[0].panels:
        assert panel.spread is not None
        assert panel.spread.shape == panel.refined.shape == (24, 32, 3)
        assert panel.spread_note.startswith("0 to ")
    assert all(panel.spread is None for panel in examples(predictor(), dataset, [0], samples=1)[0].panels)
    for panel in examples(predictor("multitask"), dataset, [0], samples=2)[0].panels:
        assert panel.initial is None


def test_the_same_seed_draws_the_same_page() -> None:
    network, dataset = predictor(), ToyDataset(2)
    one, two, other = (examples(network, dataset, [1], samples=2, seed=seed)[0] for seed in (0, 0, 1))
    spreads = [np.stack([p.spread for p in e.panels if p.spread is not None]) for e in (one, two, other)]
    assert np.array_equal(spreads[0], spreads[1])
    assert not np.array_equal(spreads[0], spreads[2])


def test_a_task_that_means_something_else_in_the_data_is_not_scored() -> None:
    dataset = ToyDataset(1)
    dataset.tasks = (replace(TASKS[0], classes=("a", "b")), *TASKS[1:])
    panel = examples(predictor(), dataset, [0])[0].panels[0]
    assert (panel.task, panel.truth, panel.caption) == ("semseg", None, "")


def test_training_pictures_cover_the_tasks() -> None:
    names = [f"image {i}" for i in range(8)]
    visible = {name: frozenset({TASK_NAMES[0 if i < 4 else i - 4]}) for i, name in enumerate(names)}
    partition = Partition(visible, "by hand")
    chosen = covering_images(partition, names, 4)
    assert len({tuple(visible[names[index]]) for index in chosen}) == 4
    assert len(covering_images(partition, names, 99)) == 8
    assert covering_images(Partition({name: frozenset() for name in names}, ""), names, 2) == []
    assert covering_images(partition, ["other"], 2) == []


def test_unseen_pictures_are_spread_over_the_well_annotated() -> None:
    dataset = ToyDataset(20, annotated={i: ["depth"] for i in range(10)})
    assert spread_images(dataset, 2) == [12, 17]
    assert spread_images(dataset, 99) == list(range(10, 20))
    assert spread_images(ToyDataset(0), 3) == []


def test_numbers_that_are_compared_have_equal_decimals() -> None:
    assert number_texts([0.12345, 0.5]) == ["0.1235", "0.5000"]
    assert number_texts([1.23456, 0.5]) == ["1.235", "0.500"]
    assert number_texts([45.678, 9.1, math.nan]) == ["45.68", "9.10", "–"]
    assert number_texts([math.inf]) == ["–"]
    assert gain_text(-3.456) == "−3.46 %"
    assert gain_text(None) == "–"


def test_gain_counts_errors_down_and_leaves_out_what_is_undefined() -> None:
    depth, semseg = TASKS[1], TASKS[0]
    before = {"depth": {depth.headline: 2.0}, "semseg": {semseg.headline: 40.0}}
    after = {"depth": {depth.headline: 1.0}, "semseg": {semseg.headline: 60.0}}
    assert gain(TASKS, after, before) == pytest.approx(50.0)
    assert gain(TASKS, {**after, "semseg": {semseg.headline: math.nan}}, before) == pytest.approx(50.0)
    assert gain(TASKS, after, {"depth": {depth.headline: 0.0}}) is None
    table = headline_table([semseg, depth], {"a": before, "b": after}, "a", "t")
    assert table.emphasis == {(0, 2), (1, 2)}
    assert table.rows[-1][1:] == ("0", "+50.00 %")


def test_the_best_stands_out_and_so_does_what_reads_the_same() -> None:
    task = TASKS[0]
    columns = {
        name: {"semseg": {task.headline: value}}
        for name, value in {"a": 20.001, "b": 20.002, "c": 19.0, "d": math.nan}.items()
    }
    assert headline_table([task], columns, "a", "t").emphasis == {(0, 1), (0, 2)}
    alike = {name: columns[name] for name in ("a", "b")}
    assert headline_table([task], alike, "a", "t").emphasis == frozenset()


def test_the_command_names_what_differs_from_the_defaults() -> None:
    said = changed(settings("prediction"), data=("my data", "b"), photometric=False)
    command = repeat_command(said, Path("runs/x"))
    assert command.startswith("diffusionmtl train --data 'my data' b --labels one --size 32 32 --photometric false")
    assert "--method prediction" in command
    assert command.endswith("--out runs/x")
    assert "--seed" not in command
    table = settings_table({"a": said, "b": settings("prediction")})
    assert {table.rows[row][0] for row, _ in table.emphasis} == {"data", "photometric"}


def test_reports_leave_the_global_random_state_alone(folders: dict[str, Path]) -> None:
    before = torch.random.get_rng_state()
    report_of_run(folders["feature"], None, ToyDataset(1), pictures=PICTURES)
    assert torch.equal(before, torch.random.get_rng_state())
