"""What a written network is worth: the same answers from the network, from its graph and from its file."""

import json

import pytest
import torch

pytest.importorskip("onnxruntime")

from diffusionmtl.export.graph import AnswerGraph
from diffusionmtl.inference.load import load
from tests.scripts import loaded

exported = loaded("benchmarks/exported.py")


def test_a_graph_answers_as_the_predictor_does(tiny_run):
    """With its noise: else scores of a file and of PyTorch would differ by chance."""
    predictor = load(tiny_run)
    graph = AnswerGraph(predictor.network).eval()
    answering = exported.Answering(predictor, graph, exported.by_torch(graph))
    image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for size in (None, (40, 60)):
        found, right = (one.estimate(image, [3, 7], 1, 5, size) for one in (answering, predictor))
        assert found.keys() == right.keys()
        for name, expected in right.items():
            assert found[name].mean.shape == expected.mean.shape
            if size is None:
                torch.testing.assert_close(found[name].mean, expected.mean, atol=1e-5, rtol=1e-4)
    other = answering.estimate(image, [3, 7], 1, 6)
    assert any(not torch.equal(other[name].mean, answering.estimate(image, [3, 7], 1, 5)[name].mean) for name in other)


@pytest.mark.slow
def test_everything_is_measured(tiny_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    words = [str(tiny_run), "--out", str(tmp_path / "out"), "--images", "2", "--rounds", "2"]
    assert exported.main(words) == 0
    said = json.loads((tmp_path / "out/exported.json").read_text())
    assert said["images"] == 2 and said["checked"]["ONNX"]["images"] == 20
    assert abs(said["delta_m"]["ONNX"]) < 0.1
    assert said["scores"]["ONNX int8"].keys() == said["scores"]["PyTorch"].keys()
    assert all(of["rounds"] == 2 for of in said["times as fast as PyTorch"].values())
    assert "max abs error" in capsys.readouterr().out
