"""What an uncertainty is held against, per kind: the error and the stated odds."""

import pytest
import torch

from diffusionmtl.metrics.calibration import Temperature, probabilities
from diffusionmtl.tasks import Boundary, Depth, Disparity, Saliency, SemanticSegmentation, SurfaceNormals

AS_IT_IS = Temperature(1.0, 0.0)


def row(*values: float) -> torch.Tensor:
    """Numbers as a map [1 1 1 w]."""
    return torch.tensor(values)[None, None, None]


def test_classes():
    task = SemanticSegmentation("semseg", classes=("a", "b", "c"))
    estimate = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]]).T[None, :, None]
    label = torch.tensor([1, 2], dtype=torch.uint8)[None, None, None]
    assert task.error(task.value(estimate), label).flatten().tolist() == [1.0, 0.0]
    odds = task.log_odds(estimate)
    assert odds.isfinite().all()
    assert torch.allclose(probabilities(odds, AS_IT_IS), estimate)
    assert task.error_unit == "wrong"


@pytest.mark.parametrize("task", [Boundary("edge"), Saliency("saliency")], ids=lambda task: task.kind)
def test_yes_or_no(task):
    yes = row(0.9, 0.25, 1.0)
    estimate = torch.cat([1 - yes, yes], dim=1) if task.channels == 2 else yes
    label = torch.tensor([True, True, False])[None, None, None]
    assert task.error(task.value(estimate), label).flatten().tolist() == pytest.approx([0.1, 0.75, 1.0])
    odds = task.log_odds(estimate)
    assert odds.isfinite().all() and torch.allclose(probabilities(odds, AS_IT_IS), yes, atol=1e-6)
    assert task.error_unit == "probability"


@pytest.mark.parametrize("task", [Depth("depth"), Disparity("disparity")], ids=lambda task: task.kind)
def test_distances(task):
    assert task.error(row(2.0, 1.0), row(1.5, 4.0)).flatten().tolist() == [0.5, 3.0]
    assert task.log_odds(row(2.0)) is None
    assert task.error_unit == task.unit


def test_normals():
    task = SurfaceNormals("normals")
    angle = torch.tensor([0.0, 30.0, 120.0]).deg2rad()
    value = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()])[None, :, None]
    up = torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 1, 3)
    assert task.error(value, up).flatten().tolist() == pytest.approx([0.0, 30.0, 120.0], abs=1e-3)
    assert task.error_unit == "degrees" and task.log_odds(value) is None
