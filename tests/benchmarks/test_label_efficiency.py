"""The experiment of label efficiency works, goes on where it was, keeps to its plan, and is drawn."""

import csv
import json
from xml.etree import ElementTree

import pytest

from benchmarks import label_jobs, label_rounds
from benchmarks.label_curves import label_curves
from benchmarks.label_efficiency import main
from benchmarks.label_rounds import Plan, Round, keep_plan, read_plan, rounds_of
from benchmarks.label_scores import Row, _curves, summary, task_summary
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Depth, Saliency

PLAN = Plan(changed(Settings(), size=(32, 48)), start=10, each=5.0, updates=7, samples=2, prices=(("depth", 2.5),))


def rows(gains: dict[str, list[list[float]]]) -> list[Row]:
    return [
        Row(seed, way, number, 10 + 5 * number, 1.0, 9, 40, gain, {"depth": 1 - gain / 100, "saliency": gain})
        for way, seeds in gains.items()
        for seed, line in enumerate(seeds)
        for number, gain in enumerate(line)
    ]


def test_curves_are_drawn_for_people_and_readers():
    curves = {"gain": [[(10, 0.0), (20, 4.0)], [(10, 0.0), (22, 6.0)]], "by chance": [[(10, 0.0), (20, 5.0)]]}
    drawn = label_curves("What labels buy", "Δm, %", curves)
    root = ElementTree.fromstring(drawn)
    assert "gain: +5.0 with 21 labels; by chance: +5.0 with 20 labels" in str(root.get("aria-label"))
    words = [text for text in root.iter() if text.tag.endswith("text") and "+5.0" in (text.text or "")]
    assert len(words) == 2
    assert abs(float(str(words[0].get("y"))) - float(str(words[1].get("y")))) >= 17
    assert label_curves("nothing", "%", {}) == ""


def test_a_curve_ends_where_a_seed_has_not_come():
    drawn = label_curves("t", "%", {"gain": [[(1, 0.0), (2, 1.0), (3, 9.0)], [(1, 0.0), (2, 3.0)]]})
    assert "gain: +2.0 with 2 labels" in drawn


def test_a_curve_ends_before_what_is_no_number_and_begins_with_a_first_round():
    found = _curves(rows({"gain": [[0, 4, float("nan"), 8], [0]], "random": [[0], [0]]}))
    assert found == {"gain": [[(10, 0), (15, 4)]]}


def test_rounds_come_after_the_one_before():
    every = rounds_of([3, 5], ["gain", "random"], 2)
    assert len(every) == 2 * (1 + 2 * 2)
    for place, one in enumerate(every):
        assert one.before is None or one.before in every[:place]
    assert [one for one in every if one.before is None] == [Round(3, "start", 0), Round(5, "start", 0)]


def test_a_summary_compares_seeds_with_which_every_way_has_come_so_far():
    said = summary(rows({"gain": [[0, 4, 8], [0, 6, 9]], "random": [[0, 3, 6], [0, 1]]})).splitlines()
    assert said[0].split() == ["round", "seeds", "labels", "gain", "random", "gain", "−", "random"]
    assert [line.split() for line in said[2:]] == [
        ["0", "2", "10/10", "+0.00", "+0.00", "+0.00", "±", "0.00"],
        ["1", "2", "15/15", "+5.00", "+2.00", "+3.00", "±", "2.83"],
        ["2", "1", "20/20", "+8.00", "+6.00", "+2.00", "±", "nan"],
        ["all", "1", "+6.00", "+4.50", "+1.50", "±", "nan"],
    ]


def test_tasks_are_compared_over_all_rounds():
    found = rows({"gain": [[0, 4, 8], [0, 6, 10]], "random": [[0, 3, 6], [0, 1, 2]]})
    said = task_summary(found, [Depth("depth"), Saliency("saliency")]).splitlines()
    assert said[2].split() == ["depth", "↓", "0.9300", "0.9700", "-0.0400", "±", "0.0354"]
    assert said[3].split() == ["saliency", "↑", "7.00", "3.00", "+4.0000", "±", "3.5355"]


def test_a_folder_holds_one_plan(tmp_path):
    keep_plan(PLAN, tmp_path)
    assert read_plan(tmp_path) == PLAN
    keep_plan(PLAN, tmp_path)
    other = Plan(PLAN.settings, 10, 6.0, 7, 2, PLAN.prices)
    with pytest.raises(UserError, match=r"plan\.json: was begun with each 5\.0, not 6\.0; choose another --out"):
        keep_plan(other, tmp_path)
    with pytest.raises(UserError, match=r"was begun with lr 0\.002, not 0\.5"):
        keep_plan(Plan(changed(PLAN.settings, lr=0.5), 10, 5.0, 7, 2, PLAN.prices), tmp_path)
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(UserError, match="not the plan of an experiment"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start", "500"], "--start 500: must lie between 12 (a batch) and --rooms 300"),
        (["--rounds", "99"], "--rounds 99: 300 rooms have 1500 labels only"),
        (["--seeds", "1", "1"], "--seeds 1 1: name each once"),
        (["--price", "depth=0"], "--price depth=0"),
    ],
)
def test_mistakes_are_found_before_anything_is_drawn(tmp_path, capsys, words, said):
    assert main(["--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_round_that_fails_is_named_with_what_it_said_last(tmp_path):
    (tmp_path / "seed-0/start").mkdir(parents=True)
    (tmp_path / "seed-0/start/log.txt").write_text("one\nno such backbone\n")
    with pytest.raises(UserError, match=r"log\.txt: seed 0, start, round 0 ended with status 2: no such backbone"):
        label_jobs._ended(Round(0, "start", 0), 2, tmp_path)


def table(out) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "label-efficiency.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_it_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    words = ["--out", str(tmp_path), "--quick", "--seeds", "0", "--rounds", "1", "--samples", "1"]
    usual, trained = label_rounds.train, []

    def watched(settings, out, **rest):
        trained.append(out)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return usual(settings, out, **rest)

    monkeypatch.setattr(label_rounds, "train", watched)
    assert main(words) == 130
    assert [(row["by"], row["round"]) for row in table(tmp_path)] == [("gain", "0"), ("gain", "1"), ("random", "0")]
    assert main(words) == 0
    assert len(trained) == 4
    said = capsys.readouterr().out
    assert "gain − random" in said and "semseg ↑" in said and "3 trainings, 2 done already" in said
    written = (tmp_path / "label-efficiency.csv").read_bytes()
    found = table(tmp_path)
    assert [(row["by"], row["round"], row["labels"]) for row in found] == [
        ("gain", "0", "10"),
        ("gain", "1", "15"),
        ("random", "0", "10"),
        ("random", "1", "15"),
    ]
    assert {row["delta_m"] for row in found if row["round"] == "0"} == {"0.0000"}
    assert all(2 <= int(row["steps"]) <= 4 for row in found)
    assert main(words) == 0
    assert len(trained) == 4 and (tmp_path / "label-efficiency.csv").read_bytes() == written
    ElementTree.parse(tmp_path / "label-efficiency.svg")
    assert main([*words, "--each", "5", "--rooms", "25"]) == 0, "a quick experiment has sizes of its own"
    assert main([*words[:-1], "2"]) == 2


@pytest.mark.slow
def test_several_at_once_come_to_the_same(tmp_path):
    words = ["--quick", "--seeds", "0", "1", "--rounds", "1", "--samples", "1", "--by", "gain"]
    assert main(["--out", str(tmp_path / "one"), *words]) == 0
    assert main(["--out", str(tmp_path / "two"), *words, "--jobs", "2"]) == 0
    one, two = (
        [(row["seed"], row["round"], row["labels"]) for row in table(out)]
        for out in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert json.loads((tmp_path / "two/seed-1/gain/round-1/suggested/tasks.json").read_text())["info"]["budget"] == 5
