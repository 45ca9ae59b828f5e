"""Files that some program predicted, and what a meter makes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Boundary, Depth, Saliency, SemanticSegmentation, SurfaceNormals

SEMSEG = SemanticSegmentation("semseg", classes=("wall", "floor", "chair"))
SAVED = np.array([[0, 51, 255]], np.uint8)


def save(path, values):
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


def test_classes_become_one_hot(tmp_path):
    for suffix in (".png", ".npy"):
        path = save(tmp_path / f"a{suffix}", np.array([[2, 0]], np.uint8))
        assert SEMSEG.read_prediction(path).tolist() == [[[0, 1]], [[0, 0]], [[1, 0]]]


def test_a_predicted_class_is_never_unknown(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: 1 pixels hold 255, which means unknown"):
        SEMSEG.read_prediction(save(tmp_path / "a.png", np.array([[2, 255]], np.uint8)))
    with pytest.raises(UserError, match="class index 3"):
        SEMSEG.read_prediction(save(tmp_path / "a.png", np.array([[2, 3]], np.uint8)))


@pytest.mark.parametrize(
    "name, values",
    [
        ("a.png", SAVED),
        ("a.png", np.repeat(SAVED[..., None], 3, axis=2)),
        ("a.png", SAVED.astype(np.uint16) * 257),
        ("a.npy", SAVED),
        ("a.npy", np.array([[0, 0.2, 1]], np.float64)),
        ("a.npy", np.array([[0, 0.2, 1]], np.float32)[..., None]),
    ],
    ids=["8 bits", "grey in three channels", "16 bits", "bytes", "float64", "a channel"],
)
def test_probabilities(tmp_path, name, values):
    path = save(tmp_path / name, values)
    expected = torch.tensor([[0, 0.2, 1]])
    torch.testing.assert_close(Boundary("edge", ignore=51).read_prediction(path), expected[None])
    torch.testing.assert_close(Saliency("sal").read_prediction(path), torch.stack([1 - expected, expected]))


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.nan, np.inf])
def test_a_logit_is_no_probability(tmp_path, wrong):
    path = save(tmp_path / "a.npy", np.array([[0.5, wrong]]))
    with pytest.raises(UserError, match=r"a\.npy: .* is no probability"):
        Boundary("edge").read_prediction(path)


def test_a_pixel_without_an_answer_stays_in(tmp_path):
    depth = save(tmp_path / "a.npy", np.array([[1.5, np.nan, 0]]))
    assert Depth("depth").read_prediction(depth).tolist() == [[[1.5, 0, 0]]]
    normals = save(tmp_path / "b.npy", np.array([[[0, 0, 2.0], [0, 0, 0]]]))
    assert SurfaceNormals("normals").read_prediction(normals)[:, 0].T.tolist() == [[0, 0, 1], [0, 0, 0]]
