"""Disparity differs from depth in what a zoom does to it, in its unit and in which end is bright."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusionmtl.data.joined import JoinedDataset
from diffusionmtl.labels import zoom
from diffusionmtl.tasks import Depth, Disparity
from tests.toy import ToyDataset


def test_a_zoom_multiplies_what_it_divides_in_depth():
    metres = torch.tensor([[[1.0, 2.0, 8.0]]])
    focal_times_baseline = 0.5
    disparity = (focal_times_baseline / metres).as_subclass(Disparity("d").label_type)
    nearer = zoom(metres.as_subclass(Depth("d").label_type), 2.0).plain()
    torch.testing.assert_close(zoom(disparity, 2.0).plain(), focal_times_baseline / nearer)


def test_a_png_is_a_share_of_its_range_unless_a_scale_is_given(tmp_path):
    Image.fromarray(np.array([[0, 1, 32257, 65535]], np.uint16)).save(tmp_path / "x.png")
    label, valid = Disparity("d").read(tmp_path / "x.png")
    np.testing.assert_allclose(label.plain()[0, 0, 1:], [1 / 65535, 0.49221, 1.0], atol=1e-5)
    assert valid.plain()[0, 0].tolist() == [False, True, True, True]
    label, _ = Disparity("d", scale=1 / 256).read(tmp_path / "x.png")
    assert label.plain()[0, 0, 1:].tolist() == pytest.approx([1 / 256, 32257 / 256, 65535 / 256])


def test_near_is_bright():
    ends = torch.tensor([[[0.1, 0.9]]])
    far, near = Disparity("d").draw(ends)[0].astype(int).sum(axis=-1)
    assert near > far
    near, far = Depth("d").draw(ends)[0].astype(int).sum(axis=-1)
    assert near > far


def test_it_is_no_depth_to_a_joined_data_set():
    metres, inverse = ToyDataset(), ToyDataset()
    inverse.name, inverse.tasks = "inverse", (Disparity("depth"),)
    assert {task.name for task in JoinedDataset([metres, inverse]).tasks} >= {"depth_toy", "depth_inverse"}
