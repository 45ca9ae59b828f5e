"""Every label type under every operation: its own rule where there is one, an error where there is none."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf
from torchvision.transforms.v2.functional import _utils as registry

from diffusionmtl.labels import OPERATIONS_WITHOUT_RULE, LabelMap, ValidMap, nearest_resize, zoom
from diffusionmtl.tasks.boundary import BoundaryMap
from diffusionmtl.tasks.depth import DepthMap
from diffusionmtl.tasks.normals import NormalMap
from tests.toy import TASKS, ToyDataset

RULES = {"horizontal_flip", "crop", "pad", "resize"}
LABEL_TYPES = sorted({task.label_type for task in TASKS} | {ValidMap, LabelMap}, key=lambda t: t.__name__)
# What torchvision can do to a value. `get_size` and its like only ask; some kernels are for boxes and points alone.
OPERATIONS = {
    f.__name__: f
    for f in registry._KERNEL_REGISTRY
    if not f.__name__.startswith("get_") and "bounding_box" not in f.__name__ and "keypoint" not in f.__name__
}


def example(label_type: type[LabelMap], height: int = 6, width: int = 9) -> LabelMap:
    """A small label of any type; the toy's own where it has one."""
    toy = ToyDataset(1, sizes=((height, width),))
    for task in TASKS:
        if task.label_type is label_type:
            return toy.label(0, task.name)[0]
    return (torch.arange(height * width).reshape(1, height, width) % 3 > 0).as_subclass(label_type)


def plain(label: Any) -> Tensor:
    return label.as_subclass(Tensor)


def test_torchvision_has_no_operation_that_labels_have_not_answered():
    assert len(OPERATIONS) > 30
    assert set(OPERATIONS) == RULES | set(OPERATIONS_WITHOUT_RULE)


@pytest.mark.parametrize("label_type", LABEL_TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - RULES))
def test_an_operation_without_a_rule_raises(name: str, label_type: type[LabelMap]):
    operation = OPERATIONS[name]
    needed = [p for p in list(inspect.signature(operation).parameters.values())[1:] if p.default is p.empty]
    with pytest.raises(TypeError, match=rf"{label_type.__name__} has no rule for"):
        operation(example(label_type), **{p.name: None for p in needed})


@pytest.mark.parametrize("label_type", LABEL_TYPES, ids=lambda t: t.__name__)
class TestRules:
    def test_every_rule_keeps_type_and_dtype(self, label_type: type[LabelMap]):
        label = example(label_type)
        outcomes = {
            "flip": tvf.horizontal_flip(label),
            "crop": tvf.crop(label, 1, 2, 3, 4),
            "pad": tvf.pad(label, [1, 2, 3, 4]),
            "resize": tvf.resize(label, [4, 5]),
            "zoom": zoom(label, 1.5),
        }
        for name, outcome in outcomes.items():
            assert type(outcome) is label_type, name
            assert outcome.dtype == label.dtype, name
        assert {name: tuple(o.shape[-2:]) for name, o in outcomes.items()} == {
            "flip": (6, 9),
            "crop": (3, 4),
            "pad": (12, 13),
            "resize": (4, 5),
            "zoom": (6, 9),
        }

    def test_flipping_twice_is_the_identity(self, label_type: type[LabelMap]):
        label = tvf.crop(example(label_type), 0, 0, 6, 8)
        once = tvf.horizontal_flip(label)
        assert not torch.equal(plain(once), plain(label))
        assert torch.equal(plain(tvf.horizontal_flip(once)), plain(label))

    def test_crop_is_a_window(self, label_type: type[LabelMap]):
        label = example(label_type)
        assert torch.equal(plain(tvf.crop(label, 1, 2, 3, 4)), plain(label)[:, 1:4, 2:6])

    def test_padding_undone_by_crop(self, label_type: type[LabelMap]):
        label = example(label_type)
        assert torch.equal(plain(tvf.crop(tvf.pad(label, [1, 2, 3, 4]), 2, 1, 6, 9)), plain(label))

    def test_resize_to_its_own_size_is_the_identity(self, label_type: type[LabelMap]):
        label = example(label_type)
        assert torch.equal(plain(tvf.resize(label, [6, 9])), plain(label))

    @given(height=st.integers(1, 20), width=st.integers(1, 20))
    def test_resize_invents_no_value(self, label_type: type[LabelMap], height: int, width: int):
        label = example(label_type)
        before = {tuple(v) for v in plain(label).flatten(1).T.tolist()}
        after = {tuple(v) for v in plain(tvf.resize(label, [height, width])).flatten(1).T.tolist()}
        assert after <= before


def test_padding_is_not_valid():
    padded = plain(tvf.pad(torch.ones(1, 2, 2, dtype=torch.bool).as_subclass(ValidMap), [1, 0, 2, 1]))
    assert padded.int().tolist() == [[[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]]


def test_depth_comes_nearer_under_zoom_and_nothing_else_changes():
    depth = torch.tensor([[[2.0, 4.0]]]).as_subclass(DepthMap)
    assert plain(zoom(depth, 2.0)).tolist() == [[[1.0, 2.0]]]
    for label_type in set(LABEL_TYPES) - {DepthMap}:
        label = example(label_type)
        assert torch.equal(plain(zoom(label, 2.0)), plain(label))
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    assert zoom(image, 2.0) is image


def test_the_x_of_a_normal_changes_sign_in_a_mirror():
    normals = torch.tensor([[0.6, 0.0], [0.0, 0.6], [0.8, 0.8]])[:, None].as_subclass(NormalMap)
    expected = torch.tensor([[0.0, -0.6], [0.6, 0.0], [0.8, 0.8]])[:, None]
    assert torch.equal(plain(tvf.horizontal_flip(normals)), expected)


def test_a_thin_line_survives_shrinking():
    edge = torch.zeros(1, 32, 32, dtype=torch.bool)
    edge[0, :, 13] = True
    small = plain(tvf.resize(edge.as_subclass(BoundaryMap), [8, 8]))
    assert small[0, :, 3].all()
    assert small.sum() == 8


def test_nearest_resize_samples_at_pixel_centres():
    x = torch.arange(4)[None]
    assert nearest_resize(x, 1, 2).tolist() == [[1, 3]]
    assert nearest_resize(x, 1, 8).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert nearest_resize(x, 1, 3).tolist() == [[0, 2, 3]]


@given(st.integers(1, 30), st.integers(1, 30))
def test_nearest_resize_is_symmetric_unless_a_centre_lies_on_a_border(old: int, new: int):
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new
    if (centres == centres.round()).any():
        return
    x = torch.arange(old)[None]
    assert torch.equal(nearest_resize(x.flip(-1), 1, new), nearest_resize(x, 1, new).flip(-1))


def test_a_label_with_three_channels_is_resized_as_one():
    normals = example(NormalMap, 8, 8)
    length = plain(tvf.resize(normals, [5, 11])).norm(dim=0)
    assert torch.allclose(length, torch.ones_like(length))
