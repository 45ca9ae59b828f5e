"""Every sort of backbone is asked the same: any picture size, what it announces, and whether all of it learns."""

import pytest
import torch
from timm.layers import DropPath  # pyright: ignore[reportPrivateImportUsage]

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise, SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.models import backbone as module
from diffusionmtl.models.backbone import timm_backbone
from diffusionmtl.models.network import Network
from diffusionmtl.tasks import Depth, SemanticSegmentation, SurfaceNormals
from diffusionmtl.training.objective import objective
from diffusionmtl.types import Batch, TaskLabels
from tests.models.test_light import LIGHT

BACKBONES = (
    "resnet18",
    "resnet50",
    "tf_efficientnet_lite0",
    "convnext_atto",
    "mobilenetv3_small_050",
    "regnetx_002",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)
TASKS = (SemanticSegmentation("semseg", ("a", "b", "c")), Depth("depth"), SurfaceNormals("normals"))
SMALL = {"width": 16, "blocks": 1, "attention_heads": 2}


@pytest.fixture(scope="module")
def backbones():
    """Each built once: they are the expensive part."""
    return {name: timm_backbone(name) for name in BACKBONES}


def network(backbones, name: str, **settings) -> Network:
    return build_network(TASKS, NetworkSettings(**SMALL, **settings), backbone=backbones[name])


def pixels(height: int, width: int, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


def batch(height: int = 64, width: int = 96, n: int = 2) -> Batch:
    """Two images with all labels."""
    generator = torch.Generator().manual_seed(0)
    values = {
        "semseg": torch.randint(0, 3, (n, 1, height, width), generator=generator).to(torch.uint8),
        "depth": 1 + 4 * torch.rand(n, 1, height, width, generator=generator),
        "normals": torch.nn.functional.normalize(torch.randn(n, 3, height, width, generator=generator), dim=1),
    }
    valid, rows = torch.ones(n, height, width, dtype=torch.bool), torch.arange(n)
    labels = {name: TaskLabels(value, valid, rows) for name, value in values.items()}
    names = tuple(f"image {i}" for i in range(n))
    return Batch(names, tuple(range(n)), pixels(height, width, n), labels, torch.full((n,), len(TASKS)))


@pytest.mark.parametrize("name", BACKBONES)
class TestEveryBackbone:
    @pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 61), (1, 1), (33, 160)])
    def test_pictures_of_any_size(self, backbones, name, height, width):
        net = network(backbones, name).eval()
        with torch.no_grad():
            output = net(pixels(height, width), NoNoise())
        for task in TASKS:
            full = output.canvas.to_image(output.final[task.name])
            assert full.shape == (2, task.channels, height, width)
            assert bool(torch.isfinite(full).all())

    def test_maps_are_as_announced(self, backbones, name):
        body = backbones[name].eval()
        with torch.no_grad():
            maps = body(torch.zeros(1, 3, 64, 128))
        assert [tuple(x.shape) for x in maps] == [
            (1, c, 64 // s, 128 // s) for c, s in zip(body.channels, body.strides, strict=True)
        ]
        assert list(body.strides) == sorted(body.strides) and min(body.strides) >= 4
        assert len(body.mean) == len(body.std) == 3

    def test_a_shifted_picture_is_another_picture(self, backbones, name):
        """The last map still knows where things are: no pooling over the whole picture."""
        body = backbones[name].eval()
        picture = torch.zeros(1, 3, 64, 128)
        picture[..., :32, :32] = 1
        with torch.no_grad():
            left, right = body(picture)[-1], body(picture.flip(-1))[-1]
        assert not torch.allclose(left, right, atol=1e-6)

    @pytest.mark.parametrize("form", ["published", "correction"])
    @pytest.mark.parametrize("method", ["feature", "prediction"])
    def test_all_of_it_learns_when_all_tasks_are_labelled(self, backbones, name, method, form):
        net = network(backbones, name, method=method, form=form).train()
        for part in net.modules():  # a branch that stochastic depth has dropped would learn nothing
            if isinstance(part, DropPath):
                part.eval()
        step = torch.optim.SGD(net.parameters(), lr=1e-3)
        step.zero_grad()
        gradients(net)
        if form == "correction":
            assert not any(p.any() for p in net.refiner.denoiser.out.parameters())
            assert all(p.grad.any() for p in net.refiner.denoiser.out.parameters())
        # What starts at zero lets no gradient through: the last projection of a correction, and the last norm of each
        # residual branch in some backbones. What lies before it learns one step later.
        step.step()
        step.zero_grad()
        gradients(net)
        assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
        assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters())

    def test_a_light_network_learns_on_it(self, backbones, name):
        net = network(backbones, name, form="published", **LIGHT).train()
        gradients(net)
        behind = [(key, p) for key, p in net.named_parameters() if not key.startswith("initial.backbone.")]
        assert [key for key, p in behind if p.grad is None or not p.grad.any()] == []
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


def gradients(net: Network) -> None:
    given = batch()
    output = net(given.image, SeededNoise(0, given.indices))
    objective(TASKS, output, given).total.backward()


def test_maps_finer_than_stride_4_are_left_out():
    assert timm_backbone("test_resnet").strides == (4, 8, 16, 32)
    # dla34 counts its maps from 1, so a map's place in the list is not its number.
    assert timm_backbone("dla34").strides == (4, 8, 16, 32)


def test_patches_that_are_no_power_of_two():
    net = build_network((Depth("depth"),), NetworkSettings(backbone="eva02_tiny_patch14_224", **SMALL)).eval()
    assert net.initial.multiple == 224
    with torch.no_grad():
        output = net(pixels(50, 60, 1), NoNoise())
    assert output.canvas.to_image(output.final["depth"]).shape == (1, 1, 50, 60)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "timm has no such network. Did you mean 'resnet18'"),
        ("vit_tiny_patch16_225", "Did you mean 'vit_tiny_patch16_"),
        ("levit_128s", "does not take images of any size"),
        ("maxvit_pico_rw_256", "does not take images of any size"),
        ("crossvit_tiny_240", "share no grid"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(name, message):
    with pytest.raises(UserError) as error:
        timm_backbone(name)
    assert f"--backbone {name}: " in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (RuntimeError("no features here"), "--backbone resnet18: gives no feature maps (no features here)"),
        (OSError("no network"), "--backbone resnet18: its weights could not be fetched (no network); download them"),
    ],
)
def test_what_timm_cannot_do_is_said_in_one_line(monkeypatch, raised, message):
    def create(*_, **__):
        raise raised

    monkeypatch.setattr(module.timm, "create_model", create)
    with pytest.raises(UserError) as error:
        timm_backbone("resnet18", pretrained=True)
    assert message in str(error.value)


def test_a_map_that_is_not_what_was_announced_is_refused(monkeypatch):
    monkeypatch.setattr(module.Backbone, "forward", lambda self, image: [torch.zeros(1, 64, 5, 5)])
    with pytest.raises(UserError, match="--backbone test_vit: its maps do not follow the size of the image"):
        timm_backbone("test_vit")


def test_looking_at_a_backbone_leaves_it_as_fresh_as_it_was():
    body = timm_backbone("test_resnet")
    assert body.training
    counts = [buffer for key, buffer in body.named_buffers() if key.endswith("num_batches_tracked")]
    assert counts and not any(counts)
