import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusionmtl.errors import UserError
from diffusionmtl.serve.review import (
    DECISION_FILE,
    DECISIONS,
    Book,
    Decisions,
    Pair,
    Record,
    Shown,
    next_undecided,
)

PAIRS = [Pair("a", "depth"), Pair("b", "depth"), Pair("b", "semseg")]


class Folder:
    title, help = "Labels", "Judge them."

    def __init__(self, folder, pairs=PAIRS):
        self.folder, self.pairs = folder, pairs
        self.content = {pair: "1" for pair in pairs}
        self.applied = []

    def digest(self, pair):
        return self.content[pair]

    def note(self, pair):
        return "note"

    def pictures(self, pair):
        return [Shown("image", np.zeros((2, 3, 3), np.uint8))]

    def apply(self, pair, decision):
        self.applied.append((pair, decision))


def book(tmp_path):
    return Book(Folder(tmp_path), lambda: "now")


names = st.text(st.characters(codec="utf-8"), max_size=8)
records = st.dictionaries(
    st.builds(Pair, names, names), st.builds(Record, st.sampled_from(DECISIONS), names, names), max_size=5
)


@given(records)
@settings(max_examples=15)
def test_decisions_survive_the_file(found):
    decisions = Decisions(found)
    assert Decisions.from_text(decisions.to_text(), "here") == decisions


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 9999, '{"format": 2, "decisions": []}', '{"format": 1, "decisions": [3]}']
)
def test_another_file_is_not_taken_for_decisions(text):
    with pytest.raises(UserError, match=r"review\.json: not a file of decisions"):
        Decisions.from_text(text, "review.json")


def test_a_file_of_decisions_that_is_no_text_is_named(tmp_path):
    (tmp_path / DECISION_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"review\.json: not a file of decisions"):
        book(tmp_path).read()


@given(st.lists(st.booleans(), max_size=6), st.integers(-1, 5))
@settings(max_examples=25)
def test_the_next_undecided_is_undecided_and_the_first_behind(undecided, after):
    found = next_undecided(undecided, after)
    if found is None:
        assert not any(undecided)
    else:
        steps = (found - after - 1) % len(undecided)
        assert undecided[found] and not any(undecided[(after + 1 + k) % len(undecided)] for k in range(steps))


def test_a_decision_is_on_disk_before_the_folder_changes(tmp_path):
    mine = book(tmp_path)
    mine.folder.apply = lambda pair, decision: 1 / 0
    with pytest.raises(ZeroDivisionError):
        mine.decide(PAIRS[1], "reject")
    (said,) = json.loads((tmp_path / DECISION_FILE).read_text())["decisions"]
    assert said == {
        "image": "b",
        "task": "depth",
        "decision": "reject",
        "digest": "1",
        "at": "now",
    }
    again = book(tmp_path)
    again.catch_up()
    assert again.folder.applied == [(PAIRS[1], "reject")]


def test_decisions_stand_until_taken_back_or_until_the_label_changes(tmp_path):
    mine = book(tmp_path)
    mine.decide(PAIRS[0], "accept")
    mine.decide(PAIRS[1], "skip")
    mine.decide(PAIRS[1], "reject")
    assert mine.standing() == ["accept", "reject", None]
    mine.decide(PAIRS[0], None)
    assert book(tmp_path).standing() == [None, "reject", None]
    later = book(tmp_path)
    later.folder.content[PAIRS[1]] = "2"
    assert later.standing() == [None, None, None]


def test_two_people_do_not_undo_each_other(tmp_path):
    one, other = book(tmp_path), book(tmp_path)
    one.decide(PAIRS[0], "accept")
    other.decide(PAIRS[1], "reject")
    assert one.standing() == other.standing() == ["accept", "reject", None]


def test_no_half_written_file_is_left(tmp_path):
    mine = book(tmp_path)
    for pair in PAIRS:
        mine.decide(pair, "accept")
    assert [path.name for path in tmp_path.iterdir()] == [DECISION_FILE]
