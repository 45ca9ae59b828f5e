"""What makes a network light: less arithmetic for the same maps, and everything in it still learns."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks import networks as given
from benchmarks import reference
from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings, settings_from_flat
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.errors import UserError
from diffusionmtl.models.blocks import Fusion, PointwiseFusion, SeparableConv
from diffusionmtl.models.cost import network_cost
from diffusionmtl.models.network import Network
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.presets import config_file
from diffusionmtl.tasks.published import pascal_context_tasks
from diffusionmtl.training.objective import objective
from tests.networks import thin_network
from tests.toy import TASKS

LIGHT = dict(
    fusion="pointwise",
    decoder="separable",
    decoder_blocks=3,
    trunk_blocks=2,
    denoiser="separable",
    refinement_heads="shared",
    mlp_ratio=2,
)
SINGLE = {word: {word: LIGHT[word]} for word in ("fusion", "decoder", "denoiser", "refinement_heads", "mlp_ratio")}
COMBINED = {"trunk_blocks": dict(trunk_blocks=2, decoder_blocks=3), "all": LIGHT}
PAPER_GMAC = 675.3


def thin(**settings) -> Network:
    """In float64, and no weight is zero."""
    sizes = NetworkSettings(**{**dict(width=8, blocks=1, attention_heads=2, token_stride=2), **settings})
    return thin_network(TASKS, sizes)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def preset_gmac(name: str, **changes) -> float:
    settings = settings_from_flat({**read_yaml(config_file(name)), **changes}, name).network
    with torch.device("meta"):
        network = build_network(pascal_context_tasks(), settings)
    return network_cost(network, (512, 512)).total.gmac


def test_a_separable_convolution_is_a_dense_one_of_low_rank():
    light, dense = SeparableConv(3, 5).double(), nn.Conv2d(3, 5, 3, padding=1).double()
    point, depth = light.pointwise.weight[:, :, 0, 0], light.depthwise.weight[:, 0]
    dense.weight, dense.bias = nn.Parameter(torch.einsum("oi,ihw->oihw", point, depth)), light.pointwise.bias
    x = random(2, 3, 5, 7)
    torch.testing.assert_close(light(x), dense(x), rtol=1e-12, atol=1e-12)


def test_pointwise_fusion_is_a_fusion_that_looks_at_one_cell():
    channels, strides, size = (3, 4, 5), (4, 8, 16), (6, 10)
    light, dense = PointwiseFusion(channels, strides, 7, 8).double(), Fusion(channels, 7).double()
    weight = torch.zeros_like(dense.conv.weight)
    weight[:, :, 1, 1] = torch.cat([p.weight[:, :, 0, 0] for p in light.projections], dim=1)
    dense.conv.weight, dense.conv.bias = nn.Parameter(weight), light.projections[0].bias
    pyramid = [random(2, c, 48 // s, 80 // s) for c, s in zip(channels, strides, strict=True)]
    torch.testing.assert_close(light(pyramid, size), dense(pyramid, size), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["feature", "prediction", "multitask"])
@pytest.mark.parametrize("protocol", ["one", "full"])
def test_every_weight_has_a_gradient_after_every_batch(method, protocol):
    network = thin(method=method, **LIGHT).train()
    batch = given.batch(TASKS, (64, 64), given.labelled(2, len(TASKS), protocol))
    rows = {task: labels.rows for task, labels in batch.labels.items()}
    exact = {name: value.double() if value.is_floating_point() else value for name, value in _values(batch).items()}
    for name, value in exact.items():
        object.__setattr__(batch.labels[name], "value", value)
    objective(TASKS, network(batch.image, SeededNoise(0, (0, 1)), rows), batch).total.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    still = {name for name, p in network.named_parameters() if not p.grad.any()}
    untaught = {task for task, at in rows.items() if not len(at)}
    assert {name for name in still if not untaught & set(name.split("."))} == set()


def _values(batch) -> dict[str, Tensor]:
    return {name: labels.value for name, labels in batch.labels.items()}


@pytest.mark.parametrize("settings", [*SINGLE.values(), *COMBINED.values()], ids=[*SINGLE, *COMBINED])
@pytest.mark.parametrize("form", ["correction", "published"])
@torch.no_grad()
def test_one_pair_at_a_time_gives_the_same(settings, form):
    network = thin(form=form, **settings).eval()
    image = given.batch(TASKS, (64, 96), given.labelled(2, len(TASKS), "none")).image
    ours, theirs = (
        network(image, SeededNoise(0, (0, 1))).final,
        reference.predict(network, image, SeededNoise(0, (0, 1))),
    )
    for task in ours:
        torch.testing.assert_close(ours[task], theirs[task], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [*SINGLE.values(), *COMBINED.values()], ids=[*SINGLE, *COMBINED])
def test_each_choice_saves_weights_or_arithmetic(settings):
    plain, light = (
        network_cost(thin(**{"decoder_blocks": 3, **words}).float(), (64, 64)).total for words in ({}, settings)
    )
    assert light.gmac < plain.gmac or light.parameters < plain.parameters


def test_the_trunk_runs_once_and_learns_from_any_task():
    network = thin(**COMBINED["trunk_blocks"]).train()
    runs = []
    network.initial.trunk[0].register_forward_hook(lambda *_: runs.append(1))
    output = network(torch.rand(2, 3, 64, 64, dtype=torch.float64), SeededNoise(0, (0, 1)), {"edge": torch.tensor([1])})
    output.final["edge"].square().sum().backward()
    assert len(runs) == 1 and all(p.grad.any() for p in network.initial.trunk.parameters())
    assert len(network.initial.trunk) == 2 and all(len(own) == 1 for own in network.initial.decoders.values())


def test_a_shared_head_runs_once_a_step_for_all_tasks():
    network = thin(refinement_heads="shared", steps=3).eval()
    seen = []
    network.refiner.denoiser.shared_head.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64, dtype=torch.float64), SeededNoise(0, (0, 1)))
    assert seen == [2 * len(TASKS)] * 3 and len(network.refiner.denoiser.heads) == 0


def test_maps_computed_again_give_the_same_gradients():
    first, found = thin(**LIGHT).train(), []
    for again in (False, True):
        network = copy.deepcopy(first)
        network.recompute(again)
        output = network(random(2, 3, 64, 64), SeededNoise(0, (0, 1)))
        sum(x.square().sum() for x in output.final.values()).backward()
        found.append([p.grad for p in network.parameters()] + [*network.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_unless_asked_for_nothing_is_new():
    """Weights of before these choices existed fit; that none of them moved is what tests/conformance sees to."""
    names = thin().state_dict()
    assert not [
        name for name in names if "trunk" in name or "shared" in name or "wise" in name or "projections" in name
    ]


@pytest.mark.parametrize("blocks", [2, 5])
def test_each_task_keeps_a_block_of_its_own(blocks):
    with pytest.raises(UserError, match=f"--trunk-blocks {blocks} leaves none of --decoder-blocks 2.*give 1 or fewer"):
        thin(decoder_blocks=2, trunk_blocks=blocks)


def test_the_preset_costs_a_hundredth_of_the_published_network():
    """The aim is a twentieth; numbers are counted for five tasks at 512 x 512, two steps."""
    assert preset_gmac("lite") == pytest.approx(6.01, abs=0.01) and preset_gmac("lite") < PAPER_GMAC / 100
    assert preset_gmac("lite", method="prediction") < preset_gmac("lite")
    assert preset_gmac("lite-resnet18") == pytest.approx(13.66, abs=0.01)
    assert preset_gmac("lite-resnet18") < PAPER_GMAC / 20


@pytest.mark.parametrize("preset", ["lite", "lite-resnet18"])
def test_presets_differ_in_the_backbone_alone(preset):
    words = read_yaml(config_file(preset))
    assert {**words, "backbone": "x"} == {**read_yaml(config_file("lite")), "backbone": "x"}
