"""The experiment of label efficiency works, goes on where it was, and is drawn."""

import csv
from xml.etree import ElementTree

import pytest

from benchmarks import label_efficiency
from benchmarks.label_curves import label_curves


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


@pytest.mark.slow
def test_it_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    words = ["--out", str(tmp_path), "--quick", "--seeds", "0", "--rounds", "1", "--samples", "1"]
    usual, trained = label_efficiency.train, []

    def watched(settings, out, **rest):
        trained.append(out)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return usual(settings, out, **rest)

    monkeypatch.setattr(label_efficiency, "train", watched)
    assert label_efficiency.main(words) == 130
    assert label_efficiency.main(words) == 0
    assert len(trained) == 4
    assert "gain − random" in capsys.readouterr().out
    written = (tmp_path / "label-efficiency.csv").read_bytes()
    rows = list(csv.DictReader(written.decode().splitlines()))
    assert [(row["by"], row["round"], row["labels"]) for row in rows] == [
        ("gain", "0", "12"),
        ("gain", "1", "18"),
        ("random", "0", "12"),
        ("random", "1", "18"),
    ]
    assert {row["delta_m"] for row in rows if row["round"] == "0"} == {"0.0000"}
    assert label_efficiency.main(words) == 0
    assert len(trained) == 4 and (tmp_path / "label-efficiency.csv").read_bytes() == written
    ElementTree.parse(tmp_path / "label-efficiency.svg")
