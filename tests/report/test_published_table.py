"""A run of a benchmark stands beside the figures in print; another run does not, and nothing is mixed in silence."""

import dataclasses
import json
import shutil

import pytest

from diffusionmtl.build import build_dataset
from diffusionmtl.cli import main
from diffusionmtl.commands.beside_print import beside_print_text
from diffusionmtl.commands.train import train
from diffusionmtl.config import changed
from diffusionmtl.data.cityscapes import cityscapes_tasks
from diffusionmtl.data.nyud import nyud_picture_tasks
from diffusionmtl.report.collect import read_run, report_of_comparison, report_of_run
from diffusionmtl.report.published_results import published_rows
from diffusionmtl.report.published_table import OURS, Setting, benchmark_of, beside_published, label_setting
from diffusionmtl.tasks.published import nyud_tasks, pascal_context_tasks
from tests.data import miniatures as m
from tests.runs import tiny

PASCAL = {
    "semseg": {"mIoU@pooled": 61.0, "mIoU@published": 60.0},
    "human_parts": {"mIoU@published": 58.0},
    "sal": {"maxF@pooled19": 90.0, "maxF@published": 78.0},
    "normals": {"mErr@pooled": 16.0},
    "edge": {"odsF@seism-0.0075": 65.0},
}


def beside(benchmark="pascal-context", labels="one", columns=None, tasks=None, images=None, source=""):
    tasks = tasks or pascal_context_tasks()
    setting = Setting(benchmark, labels, source)
    return beside_published(setting, tasks, columns or {"score": PASCAL}, images or {"edge": 2498})


def cells(found, method: str) -> dict[str, str]:
    row = next(row for row in found.table.rows if row[0].split("\n")[0] == method)
    return {column.split("\u00a0")[0]: cell for column, cell in zip(found.table.columns, row, strict=True)}


class TestTable:
    def test_ours_is_on_top_under_the_protocols_in_print(self):
        found = beside()
        assert found is not None and found.table.rows[0][0] == OURS
        mine = cells(found, OURS)
        assert (mine["semseg"], mine["sal"], mine["Δm in print"]) == ("60.00", "78.00", "–")
        gains = [60 / 50.34 - 1, 58 / 59.05 - 1, 78 / 77.43 - 1, 1 - 16 / 16.59, 65 / 64.40 - 1]
        assert float(mine["Δm from the figures"]) == pytest.approx(100 * sum(gains) / 5, abs=0.005)
        assert "sal\u00a0maxF@published" in found.table.columns

    def test_theirs_as_printed_and_as_recomputed(self):
        row = cells(beside(), "DiffusionMTL Feature")
        assert (row["semseg"], row["sal"], row["edge"]) == ("57.78", "77.82?", "64.50")
        assert (row["Δm in print"], row["Δm from the figures"]) == ("+3.65", "+3.64")
        assert cells(beside("cityscapes", tasks=cityscapes_tasks()), "MTL baseline")["Δm in print"] == "−18.81"

    def test_another_protocol_is_marked_and_said(self):
        found = beside()
        row = cells(found, "XTC (original)")
        assert (row["sal"], row["edge"], row["semseg"]) == ("61.70†?", "65.10†?", "49.50")
        assert any("† another protocol" in note and "sal mIoU (XTC (original))" in note for note in found.notes)
        assert any(note.startswith("?") for note in found.notes)

    def test_a_figure_of_another_protocol_is_not_taken_instead(self):
        without = {**PASCAL, "sal": {"maxF@pooled19": 90.0}}
        mine = cells(beside(columns={"score": without}), OURS)
        assert mine["sal"] == "–" and mine["Δm from the figures"] == "–"

    def test_a_single_task_has_its_figure_and_no_gain(self):
        sal = tuple(task for task in pascal_context_tasks() if task.name == "sal")
        mine = cells(beside(tasks=sal, columns={"score": {"sal": PASCAL["sal"]}}), OURS)
        assert (mine["sal"], mine["semseg"], mine["Δm from the figures"]) == ("78.00", "–", "–")

    def test_initial_and_refined(self):
        found = beside(columns={"initial": PASCAL, "refined": PASCAL})
        assert [row[0] for row in found.table.rows[:2]] == [f"{OURS}, initial", OURS]

    def test_other_labels_and_other_images_are_said(self):
        published = "published partition of PASCAL-Context, one label [527915d7728b4e9c]"
        assert any("other labels" in note for note in beside().notes)
        assert not any("other labels" in note for note in beside(source=published).notes)
        assert any("5,105" in note for note in beside(images={"edge": 5105}).notes)
        assert not any("odsF in print" in note for note in beside().notes)

    def test_every_source_is_there(self):
        said = "\n".join(row[0] for row in beside().table.rows)
        main_rows = [
            r for r in published_rows() if (r.benchmark, r.labels, r.table) == ("pascal-context", "one", "main")
        ]
        assert all(row.source in said for row in main_rows)

    def test_nothing_in_print(self):
        assert beside("nyud", "full", tasks=nyud_tasks()) is None


class TestWhichRuns:
    def test_the_validation_split_of_one_benchmark_with_its_tasks(self):
        assert benchmark_of(("nyud",), "val", nyud_tasks()) == "nyud"
        assert benchmark_of(("nyud",), "val", nyud_tasks()[:1]) == "nyud"
        assert benchmark_of(("cityscapes",), "val", cityscapes_tasks()) == "cityscapes"
        assert benchmark_of(("nyud",), "train", nyud_tasks()) is None
        assert benchmark_of(("nyud", "rooms"), "val", nyud_tasks()) is None
        assert benchmark_of(("rooms",), "val", nyud_tasks()) is None
        assert benchmark_of(("cityscapes-19",), "val", cityscapes_tasks(19)) is None
        assert benchmark_of(("nyud",), "val", nyud_picture_tasks()) is None

    def test_weights_of_the_objective_and_protocols_do_not_matter(self):
        tasks = [dataclasses.replace(task, weight=3.0) for task in pascal_context_tasks()]
        assert benchmark_of(("pascal-context",), "val", tasks) == "pascal-context"

    @pytest.mark.parametrize(
        ("labels", "source", "expected"),
        [
            ("one", "", "one"),
            ("random", "anything", "random"),
            ("as-found", "as found", "full"),
            ("x.npy", "published partition of PASCAL-Context, one label [527915d7728b4e9c]", "one"),
            ("x.npy", "published partition of NYUD-v2, random labels [54e7bcbb739bb071]", "random"),
            ("mine.txt", "random labels per image, seed 3", "random"),
            ("mine.txt", "by hand", None),
        ],
    )
    def test_which_labels(self, labels, source, expected):
        assert label_setting(labels, source) == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny network trained on miniature arrays of NYUD, and scored."""
    root = tmp_path_factory.mktemp("nyud")
    data = m.nyud_arrays(root / "data", counts=(6, 2))
    settings = changed(
        tiny(), data=("nyud",), root=str(data), fit=False, epochs=1, batch=3, holdout=0.0, method="multitask"
    )
    folder = train(settings, root / "run", progress=False).root
    assert build_dataset(settings.data, "val").name == "nyud"
    assert main(["evaluate", str(folder)]) == 0
    return folder


class TestARun:
    def test_evaluate_prints_it(self, run, capsys):
        assert main(["evaluate", str(run), "--json", str(run / "again.json")]) == 0
        out = capsys.readouterr().out
        assert "Beside what is in print for nyud, one labels" in out and "DiffusionMTL Feature" in out
        assert "other labels than those in print" in out

    def test_the_report_shows_it(self, run):
        report = report_of_run(run)
        assert any("in print for nyud" in table.caption for table in report.tables)
        assert any("Δm of this run is over the Single-Task row" in note for note in report.notes)

    def test_the_page_of_several_runs_shows_them_in_one_table(self, run):
        report = report_of_comparison([("first", run), ("second", run)])
        beside = [table for table in report.tables if "in print for nyud" in table.caption]
        assert [row[0] for row in beside[0].rows[:2]] == ["ours, first", "ours, second"] and len(beside) == 1
        assert any("Δm of ours is over the Single-Task row" in note for note in report.notes)
        assert any("Ours saw other labels" in note for note in report.notes)

    def test_a_page_says_what_must_be_known_of_the_data(self, run, tmp_path):
        copied = shutil.copytree(run, tmp_path / "run")
        metrics = json.loads((copied / "metrics.json").read_text())
        (copied / "metrics.json").write_text(json.dumps({**metrics, "notes": ["normals count everywhere"]}))
        assert "normals count everywhere" in report_of_run(copied).notes
        assert "normals count everywhere" in report_of_comparison([("a", run), ("b", copied)]).notes

    def test_elsewhere_it_says_nothing(self, run):
        metrics = json.loads((run / "metrics.json").read_text())
        assert beside_print_text(run, metrics)
        assert beside_print_text(run, {**metrics, "data": ["rooms"]}) == ""
        assert beside_print_text(run, {**metrics, "split": "train"}) == ""
        assert beside_print_text(run / "checkpoints" / "last.safetensors", metrics) == ""
        assert read_run(run).metrics is not None
