"""Lines for those who read the output of long work in a file."""

import sys

import pytest

from diffusionmtl import pace
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_a_line_at_most_every_so_often(capsys, clock):
    said = Pace()
    for done in range(1, 7):
        clock[0] += pace.SECONDS / 2
        said.say("drawing", done, 6, "images")
    assert capsys.readouterr().err.splitlines() == [f"drawing: {done} of 6 images" for done in (2, 4, 6)]


def test_nothing_where_bars_are_seen(capsys, clock, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = Pace()
    clock[0] += 10 * pace.SECONDS
    said.say("drawing", 1, 2, "images")
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_file_is_lines(capsys, clock):
    show = progress_bar("evaluating")
    for done in (1, 2):
        clock[0] += pace.SECONDS
        show(done, 2)
    assert capsys.readouterr().err.splitlines() == ["evaluating: 1 of 2 images", "evaluating: 2 of 2 images"]
