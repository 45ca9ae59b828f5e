"""The one picture of an answer: what is where, and that words fit."""

import numpy as np
import pytest
import torch
from PIL import ImageDraw

from diffusionmtl.inference.sheet import Shown, sheet, spread_range, top_of
from diffusionmtl.tasks import Depth, SemanticSegmentation

CLASSES = SemanticSegmentation("semseg", classes=("wall", "floor", "chair"))
DEPTH = Depth("depth")


@pytest.fixture
def said(monkeypatch):
    """What is written, in order."""
    words: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, at, text, *_: words.append(text))
    return words


def answers(height: int, width: int, spread: bool = True) -> list[Shown]:
    classes = torch.zeros(1, height, width, dtype=torch.uint8)
    classes[:, 1:] = 2
    metres = torch.linspace(1, 3, height * width).reshape(1, height, width)
    doubt = torch.full((height, width), 0.25) if spread else None
    return [Shown(CLASSES, classes, None), Shown(DEPTH, metres, doubt, expected=True)]


def test_every_picture_has_its_name_and_range(said):
    drawn = sheet(np.zeros((120, 200, 3), np.uint8), answers(120, 200))
    assert drawn.width == 600
    assert said[:2] == ["image", "semseg"]
    assert said[2].startswith("depth, 1") and said[2].endswith(" m")
    assert said[3] == "expected error, 0 to 0.25 m"
    assert said[4:] == ["chair", "wall"], "the classes that occur, the largest first"
    assert not any("\u00a0" in word for word in said), "the font has no such space"


def test_small_pictures_are_enlarged_so_that_names_fit():
    drawn = sheet(np.zeros((4, 6, 3), np.uint8), answers(4, 6, spread=False))
    assert drawn.width == 3 * 162
    pixels = np.asarray(drawn)
    assert (pixels[:27, 162:324] == pixels[0, 162]).all(), "a cell of one colour is one square of it"
    assert (pixels[27:108, 162:324] != pixels[0, 162]).any(axis=-1).all()


def test_many_long_names_stay_in_their_column(said):
    task = SemanticSegmentation("semseg", classes=tuple(f"a class of a very long name, number {n}" for n in range(200)))
    value = torch.arange(200, dtype=torch.uint8).reshape(1, 10, 20)
    sheet(np.zeros((10, 20, 3), np.uint8), [Shown(task, value, None)])
    names = [word for word in said if word.startswith("a class")]
    assert len(names) == 12 and all(name.endswith("…") for name in names)


def test_the_range_of_nothing():
    assert top_of(torch.zeros(3, 3)) == 0
    assert spread_range(DEPTH, 0.0) == "0 everywhere"


def test_a_spread_of_few_pixels_is_not_nothing():
    spread = torch.zeros(20, 20)
    spread[0, 0] = 0.5
    assert top_of(spread) == 0.5
