"""No label, however empty or extreme, makes a loss or its gradient anything but a finite number."""

import numpy as np
import pytest
import torch

from diffusionmtl.tasks import Boundary, Depth, Disparity, Saliency, SemanticSegmentation, SurfaceNormals

TASKS = {
    task.kind: task
    for task in (
        SemanticSegmentation("semseg", classes=("road", "car", "sky")),
        Depth("depth"),
        Disparity("disparity"),
        SurfaceNormals("normals"),
        Saliency("saliency"),
        Boundary("edge"),
    )
}
H, W = 4, 5
LABELS = ["void", "one pixel", "one class", "huge", "tiny", "not a number where unknown"]
ANSWERS = {"zero": 0.0, "large": 1e4, "small": 1e-30}


def label_of(task, what):
    """[2 k H W] and where it holds; the second image always has an ordinary label."""
    channels, kind = task.label_channels, task.label_dtype
    label = torch.ones(2, channels, H, W, dtype=kind)
    valid = torch.ones(2, H, W, dtype=torch.bool)
    if what in ("void", "not a number where unknown"):
        valid[0] = False
        if kind.is_floating_point and what != "void":
            label[0] = torch.nan
    elif what == "one pixel":
        valid[0] = False
        valid[0, 0, 0] = True
    elif kind.is_floating_point and what in ("huge", "tiny"):
        label[0] = 1e30 if what == "huge" else 1e-42
    return label, valid


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("what", LABELS)
@pytest.mark.parametrize("kind", TASKS)
def test_losses_and_gradients(kind, what, answer):
    task = TASKS[kind]
    raw = torch.full((2, task.channels, H, W), ANSWERS[answer], requires_grad=True)
    label, valid = label_of(task, what)
    loss = task.loss(raw, label, valid)
    loss.sum().backward()
    assert bool(loss.isfinite().all()) and bool(raw.grad.isfinite().all())
    if not bool(valid[0].any()):
        assert loss[0] == 0 and not bool(raw.grad[0].any())


@pytest.mark.parametrize("kind", ["depth", "disparity"])
def test_numbers_that_are_none_are_unknown(tmp_path, kind):
    values = np.array([[0.0, -1.0, np.nan], [np.inf, -np.inf, 2.0]])
    np.save(tmp_path / "a.npy", values)
    label, valid = TASKS[kind].read(tmp_path / "a.npy")
    assert bool(label.isfinite().all())
    assert not valid[0, 0, 2] and not valid[0, 1, 0] and valid[0, 1, 2]


def test_normals_that_are_none_are_unknown(tmp_path):
    values = np.zeros((1, 4, 3))
    values[0, 0], values[0, 1, 0], values[0, 2], values[0, 3] = np.nan, np.inf, 1e300, (0, 0, 1)
    np.save(tmp_path / "a.npy", values)
    label, valid = TASKS["normals"].read(tmp_path / "a.npy")
    assert bool(label.isfinite().all())
    assert valid[0, 0].tolist() == [False, False, False, True]
