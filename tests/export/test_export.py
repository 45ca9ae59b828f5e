"""An exported network answers as the network does, for any number of images of any size, and says how to ask it."""

import json
import subprocess
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

pytest.importorskip("onnxruntime")

from diffusionmtl.cli import main
from diffusionmtl.commands.export import describe, export
from diffusionmtl.diffusion import NoNoise
from diffusionmtl.errors import UserError
from diffusionmtl.export import check
from diffusionmtl.export.graph import AnswerGraph, NoiseInput
from diffusionmtl.inference.load import load
from diffusionmtl.inference.streamlined import streamlined
from tests.inference.test_streamlined import made
from tests.models.test_light import LIGHT

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_without_torch.py"


@pytest.fixture
def unchecked():
    """While a graph is taken, sizes are symbols: no integers, as the checks of shapes demand."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def spoilt(network):
    quick = streamlined(network)
    head = quick.refiner.signal.heads["depth"]
    head.bias = torch.nn.Parameter(head.bias + 1)
    return quick


class Drawn:
    """Keeps what it gives, so that the same noise can be handed over as an input."""

    def __init__(self, noise: torch.Tensor, told: NoiseInput):
        self.noise, self.told = noise, told

    def __call__(self, task, step, rows, like):
        first = sum(self.told.widths[: self.told.tasks.index(task)])
        return self.noise[self.told.steps - step, :, first : first + like.shape[1]]


@pytest.mark.parametrize("case", [dict(steps=3), dict(method="prediction"), dict(method="multitask"), LIGHT])
@pytest.mark.parametrize("size", [(40, 71), (64, 64), (1, 5)])
@torch.inference_mode()
def test_the_graph_answers_as_the_network(case, size):
    network = made(**case, blocks=1)
    graph = AnswerGraph(network, initial=True)
    inputs = graph.example(2, size)
    assert len(inputs) == (1 if case.get("method") == "multitask" else 2)
    noise = NoNoise() if graph.told is None else Drawn(inputs[1], graph.told)
    output = network(inputs[0], noise)
    found = dict(zip(graph.outputs, graph(*inputs), strict=True))
    assert len(found) == (5 if graph.told is None else 10)
    for task in network.tasks:
        for prefix, raw in (("", output.final), ("initial_", output.initial)):
            if task.name in raw:
                expected = task.activate(output.canvas.to_image(raw[task.name]))
                torch.testing.assert_close(found[prefix + task.name], expected, atol=1e-4, rtol=1e-4)
                assert expected.shape[-2:] == size


def test_pictures_to_check_are_of_several_sizes():
    sizes = check.sizes_to_check(32)
    assert len(sizes) == len(set(sizes)) == check.IMAGES
    assert sizes[0] == (32, 32) and any(height % 32 and width % 32 for height, width in sizes)


def test_a_difference_is_found_where_there_is_one():
    graph = AnswerGraph(made(method="multitask", blocks=1))

    def off(inputs):
        return [x.numpy() + 0.25 * (name == "depth") for name, x in zip(graph.outputs, graph(*inputs), strict=True)]

    with torch.no_grad():
        found = check.differences(off, graph, [(32, 32), (20, 40)])
    assert found["depth"].largest == pytest.approx(0.25, abs=1e-5)
    assert found["edge"].largest == 0 < found["edge"].scale


def test_the_description_says_everything(tiny_run):
    network = load(tiny_run).network
    said = describe(network, (32, 32), "tiny.onnx", "onnx", initial=True)
    assert json.loads(json.dumps(said)) == said
    assert list(said["outputs"]) == AnswerGraph(network, True).outputs
    assert said["outputs"]["semseg"]["classes"] and said["outputs"]["semseg"]["refined"]
    assert said["outputs"]["depth"]["shape"] == ["images", 1, "height", "width"]
    assert said["inputs"]["image"]["resample"] == "bilinear" and "EXIF" in said["inputs"]["image"]["fit_meaning"]
    yes = {name: output["yes_channel"] for name, output in said["outputs"].items() if "yes_channel" in output}
    assert yes == {"edge": 0, "saliency": 1, "initial_edge": 0, "initial_saliency": 1}
    noise = said["inputs"]["noise"]
    told = NoiseInput.of(network)
    rows, columns = (eval(text, {"ceil": np.ceil, "height": 40, "width": 71}) for text in noise["shape"][3:])
    assert told.shape(2, (40, 71)) == (noise["shape"][0], 2, noise["shape"][2], rows, columns)


@pytest.mark.parametrize("words", [["--format", "torch", "--int8", "--out", "x.pt2"], ["--out", "x.json"]])
def test_mistakes(tiny_run, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(tiny_run), *words]) == 2
    assert words[2 if "--int8" in words else 0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_onnx_runtime_answers_as_the_network(tiny_run, tmp_path, capsys):
    file = tmp_path / "deep" / "tiny.onnx"
    assert main(["export", str(tiny_run), "--out", str(file), "--initial"]) == 0
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["checked"]["images"] == 20
    assert all(one["largest"] < 1e-4 for one in about["checked"]["difference"].values())
    assert "max abs error" in capsys.readouterr().out
    assert sorted(path.name for path in file.parent.iterdir()) == ["tiny.json", "tiny.onnx"]

    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    alone = (
        "import sys; sys.modules['torch'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    words = [sys.executable, "-c", alone, str(EXAMPLE), str(file), str(tmp_path / "photo.png")]
    subprocess.run(words, check=True, cwd=tmp_path, capture_output=True)
    graph = AnswerGraph(load(tiny_run).network, True)
    noise = np.random.default_rng(0).standard_normal(graph.told.shape(1, (32, 32)), dtype=np.float32)
    with torch.no_grad():
        expected = graph(torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(noise))
    for name, right in zip(graph.outputs, expected, strict=True):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), right[0].numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_the_example_answers_a_photo_as_the_package_does(tiny_run, tmp_path):
    """From the file to the answer: a photo of another size than the network's, which its camera held sideways."""
    file, photo = tmp_path / "tiny.onnx", tmp_path / "photo.png"
    assert main(["export", str(tiny_run), "--out", str(file)]) == 0
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo, exif=tag)
    subprocess.run([sys.executable, str(EXAMPLE), str(file), str(photo), "0"], check=True, cwd=tmp_path)
    expected = load(tiny_run, noise_scale=0)(photo)["depth"].estimate
    found = torch.from_numpy(np.load(tmp_path / "depth.npy"))
    assert found.shape == (1, 21, 32) and expected.shape == (1, 60, 90)
    found = torch.nn.functional.interpolate(found[None], (60, 90), mode="bilinear")[0]
    # Pillow and torch round a pixel differently now and then, by one of 255.
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_int8_is_smaller_and_says_how_far_it_is_off(tiny_run, tmp_path, capsys):
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    for file, words in ((whole, []), (small, ["--int8"])):
        assert main(["export", str(tiny_run), "--out", str(file), *words]) == 0
    assert small.stat().st_size < 0.8 * whole.stat().st_size
    checked = json.loads(small.with_suffix(".json").read_text())["checked"]
    assert 0 < checked["difference_int8"]["semseg"]["largest"] < 0.5
    assert checked["difference"]["semseg"]["largest"] < 1e-4
    assert "int8" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_program_of_torch_answers_as_the_network(tiny_run, tmp_path):
    path, about = export(tiny_run, tmp_path / "tiny.pt2", "torch")
    assert path.name == "tiny.json" and about["kind"] == "torch"
    assert all(one["largest"] < 1e-4 for one in about["checked"]["difference"].values())


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_file_that_answers_otherwise_is_not_kept(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusionmtl.commands.export.streamlined", spoilt)
    monkeypatch.setattr("diffusionmtl.commands.export.sizes_to_check", lambda multiple: [(32, 32)])
    with pytest.raises(UserError, match="differs from the network"):
        export(tiny_run, tmp_path / "wrong.onnx")
    assert not list(tmp_path.iterdir())
