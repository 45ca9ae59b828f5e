"""A stranger's weights file says how large its network is; that is held against its weights before one is built."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusionmtl.build import build_network, describe_run, sketched
from diffusionmtl.commands.published import import_published
from diffusionmtl.config import Settings, changed
from diffusionmtl.errors import UserError
from diffusionmtl.inference import load as loading
from diffusionmtl.inference.load import load
from diffusionmtl.models.pretrained import save_network
from diffusionmtl.tasks import Depth, SemanticSegmentation

TASKS = (SemanticSegmentation("semseg", classes=("road", "car")), Depth("depth"))
SMALL = dict(backbone="test_efficientnet", width=16, blocks=1, token_stride=2, size=(32, 32))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    settings = changed(Settings(), **SMALL)
    path = tmp_path_factory.mktemp("good") / "last.safetensors"
    save_network(build_network(TASKS, settings.network), path, describe_run(settings, TASKS))
    return path, describe_run(settings, TASKS)


def forged(good, path, **words):
    """The same weights with another description."""
    weights, description = good
    save_file(load_file(weights), path, {"diffusionmtl": json.dumps({**description, **words})})
    return path


def test_a_sketch_has_the_shapes_of_the_network_and_no_numbers(good):
    settings = changed(Settings(), **SMALL).network
    sketch, network = (build(TASKS, settings).state_dict() for build in (sketched, build_network))
    assert {key: value.shape for key, value in sketch.items()} == {key: value.shape for key, value in network.items()}
    assert all(value.is_meta for value in sketch.values())
    assert not any(value.is_meta for value in load(good[0]).network.state_dict().values())


@pytest.mark.parametrize(
    "words",
    [
        {"width": 1 << 20},
        {"hidden": 1 << 20},
        {"blocks": 1 << 30},
        {"decoder_blocks": 1 << 30},
        {"trunk_blocks": 1 << 30},
        {"steps": 1 << 30},
        {"token_stride": 1 << 30},
        {"grid_stride": 1 << 30},
        {"size": [1 << 20, 1 << 20]},
        {"backbone": "vit_giant_patch14_clip_224"},
        {"task_set": {f"t{i}": {"kind": "depth"} for i in range(5000)}},
        {"task_set": {"semseg": {"kind": "segmentation", "classes": [f"c{i}" for i in range(100_000)]}}},
    ],
    ids=lambda words: next(iter(words)),
)
def test_an_absurd_description_is_refused_before_a_network_is_built(good, tmp_path, monkeypatch, words):
    path = forged(good, tmp_path / "last.safetensors", **words)
    monkeypatch.setattr(loading, "build_network", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(UserError, match=r"last\.safetensors"):
        load(path)


def test_a_published_checkpoint_that_is_a_single_wide_weight(tmp_path, monkeypatch):
    weights = {
        f"backbone.layer{stage}.{block}.conv1.weight": torch.zeros(1) for stage in (1, 2, 3, 4) for block in (0, 1)
    }
    weights |= {
        "diffusion_model.denoiser.crossblocks.0.weight": torch.zeros(1),
        "backbone_embed.weight": torch.zeros(100_000, 1),
        "preliminary_head.depth.0.weight": torch.zeros(1, 1),
        "diffusion_model.denoiser.task_heads.depth.1.weight": torch.zeros(100_000, 1),
        "diffusion_model.betas": torch.tensor([0.001, 0.01]),
    }
    torch.save({"model": weights}, tmp_path / "a.pth")
    monkeypatch.setattr("diffusionmtl.commands.published.build_network", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(UserError, match=r"a\.pth: does not fit the published network"):
        import_published(tmp_path / "a.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()
