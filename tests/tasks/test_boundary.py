"""Boundaries: the tolerance is the task's, and names its figures."""

import numpy as np
import pytest
import torch

from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Boundary
from diffusionmtl.tasks.base import task_from_settings


def line(column: int, size: tuple[int, int] = (300, 400)) -> torch.Tensor:
    out = torch.zeros(1, 1, *size)
    out[..., 20:280, column] = 1
    return out


def test_the_tolerance_names_the_figure_and_travels_with_the_task():
    assert Boundary("edge").headline == "odsF@seism-0.0075"
    task = task_from_settings("edge", {"kind": "boundary", "tolerance": 0.011}, "here")
    assert task.headline == "odsF@seism-0.011" and task.settings() == {"kind": "boundary", "tolerance": 0.011}
    assert "tolerance" not in Boundary("edge").settings()
    assert task.meaning() == Boundary("edge").meaning()


def test_the_tolerance_decides():
    """The diagonal is 500 pixels: 0.0075 of it are 3.75, 0.011 are 5.5."""
    scores = []
    for task in (Boundary("edge"), Boundary("edge", tolerance=0.011)):
        meter = task.meter()
        meter.update(line(100), line(105).bool(), torch.ones(1, 300, 400, dtype=torch.bool))
        scores.append(meter.compute()[task.headline])
    assert scores == [0, 100]


def test_every_protocol_comes_once_and_that_of_the_task_first():
    names = [meter.protocol.name for meter in Boundary("edge", tolerance=0.011).meters()]
    assert names == ["seism-0.011", "seism-0.0075", "fast-0.0075"]
    assert Boundary("edge", tolerance=0.02).meters()[0].protocol.name == "seism-0.02"


@pytest.mark.parametrize("tolerance", [-0.001, 0.2, "wide"])
def test_a_tolerance_is_a_small_share(tolerance):
    with pytest.raises(UserError, match="tolerance"):
        task_from_settings("edge", {"kind": "boundary", "tolerance": tolerance}, "here")


def test_channels_of_a_label_are_annotators():
    meter = Boundary("edge").meter()
    label = torch.cat([line(100), line(102), line(300)], dim=1).bool()
    meter.update(line(100), label, torch.ones(1, 300, 400, dtype=torch.bool))
    matched, predictions, matched_labels, labels = np.asarray(meter.counts[0])[0, :, 50]
    assert (matched, predictions) == (260, 260) and (matched_labels, labels) == (520, 780)
