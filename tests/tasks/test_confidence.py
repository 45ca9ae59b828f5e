"""What it means to be sure and to be right, per kind."""

import pytest
import torch
from torch.nn import functional as F

from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals

SEMSEG = SemanticSegmentation("semseg", classes=("a", "b", "c"))


def row(*values: float) -> torch.Tensor:
    """Numbers as a map [1 1 1 w]."""
    return torch.tensor(values)[None, None, None]


def test_segmentation():
    estimate = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).T[None, :, None]
    assert SEMSEG.confidence(estimate, None).flatten().tolist() == pytest.approx([0.7, 0.4])
    label = torch.tensor([0, 1], dtype=torch.uint8)[None, None, None]
    assert SEMSEG.is_right(SEMSEG.value(estimate), label).flatten().tolist() == [True, False]


@pytest.mark.parametrize("task", [Boundary("edge"), Saliency("saliency")], ids=lambda task: task.kind)
def test_yes_or_no(task):
    yes = row(0.9, 0.5, 0.2)
    estimate = torch.cat([1 - yes, yes], dim=1) if task.channels == 2 else yes
    assert task.confidence(estimate, None).flatten().tolist() == pytest.approx([0.9, 0.5, 0.8])
    label = torch.tensor([True, False, False])[None, None, None]
    assert task.is_right(task.value(estimate), label).flatten().tolist() == [True, False, True]


def test_depth():
    task = Depth("depth")
    spread = torch.tensor([[[0.0, 0.25, 3.0]]])
    assert task.confidence(row(2.0, 2.0, 2.0), spread).flatten().tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert (
        task.is_right(row(1.2, 1.0, 1.3, 1.0), row(1.0, 1.2, 1.0, 1.3)).flatten().tolist() == [True, True] + [False] * 2
    )


def test_normals():
    task = SurfaceNormals("normals")
    spread = torch.tensor([[[0.0, 4.5, 90.0]]])
    assert task.confidence(torch.rand(1, 3, 1, 3), spread).flatten().tolist() == pytest.approx([1.0, 0.8, 0.0])
    up = F.normalize(torch.tensor([0.0, 0.0, 1.0]), dim=0)[None, :, None, None]
    tilted = torch.tensor([[0.0, 22.0, 23.0]]).deg2rad()
    value = torch.stack([tilted.sin(), torch.zeros_like(tilted), tilted.cos()])[None]
    assert task.is_right(value, up.expand(1, 3, 1, 3)).flatten().tolist() == [True, True, False]
