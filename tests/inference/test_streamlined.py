"""The network that answers is the network that was trained, within rounding, and leaves that one as it was."""

import copy

import pytest
import torch
from torch import nn

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.inference.folding import fold_batch_norms
from diffusionmtl.inference.load import quick_predictor
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.inference.streamlined import streamlined
from diffusionmtl.models.network import Network
from tests.models.test_light import LIGHT
from tests.toy import TASKS

CASES = {
    "correction": dict(),
    "published": dict(form="published"),
    "narrow heads": dict(form="published", hidden=24, steps=3),
    "prediction": dict(method="prediction"),
    "published prediction": dict(method="prediction", form="published", signal_scale=0.5),
    "without condition": dict(condition="none"),
    "condition of features": dict(condition="features"),
    "without diffusion": dict(diffusion=False, form="published"),
    "multitask": dict(method="multitask"),
    "residual network": dict(backbone="test_resnet"),
    "depthwise": dict(backbone="test_efficientnet_ln"),
    "attention over cells": dict(token_stride=1),
    "light": LIGHT,
    "light, published": dict(form="published", **LIGHT),
    "light prediction": dict(method="prediction", **LIGHT),
    "light multitask": dict(method="multitask", **LIGHT),
}
ALL_GONE = ("test_efficientnet", "test_resnet", "resnet18", "mobilenetv3_small_050", "regnetx_002")


def lived(network: Network, seed: int = 0) -> Network:
    """With weights and batch statistics as training may leave them: none that a mistake could hide behind."""
    generator = torch.Generator().manual_seed(seed)

    def near(x: torch.Tensor, middle: float, by: float) -> torch.Tensor:
        return middle + by * torch.rand(x.shape, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.weight.copy_(near(module.weight, 0.5, 1.0))
                module.bias.copy_(near(module.bias, -0.5, 1.0))
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.copy_(near(module.bias, -0.5, 1.0))
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_mean.copy_(near(module.running_mean, -0.5, 1.0))
                module.running_var.copy_(near(module.running_var, 0.3, 2.0))
        if network.refiner is not None and network.refiner.denoiser.correction:
            for projection in network.refiner.denoiser.out.values():
                projection.weight.normal_(std=0.1, generator=generator)
    return network.eval()


def made(**settings) -> Network:
    small = dict(backbone="test_efficientnet", width=16, blocks=2, token_stride=2, noise_start=0.1, noise_end=0.3)
    return lived(build_network(TASKS, NetworkSettings(**{**small, **settings})))


def pictures(n: int = 2, height: int = 40, width: int = 71) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def assert_near(one, other) -> None:
    assert one.keys() == other.keys()
    for task in one:
        largest = max(1.0, float(one[task].abs().max()))
        torch.testing.assert_close(one[task], other[task], atol=1e-4 * largest, rtol=0, msg=f"{task}: {{}}".format)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_answers_are_those_of_the_network(case):
    network = made(**CASES[case])
    before = copy.deepcopy(network.state_dict())
    quick = streamlined(network)
    one, other = (each(pictures(), SeededNoise(3, [5, 6])) for each in (network, quick))
    assert_near(one.final, other.final)
    assert_near(one.initial, other.initial)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # Other noise moves the answer further than streamlining does.
    if network.refiner is not None and network.refiner.noisy:
        moved = quick(pictures(), SeededNoise(4, [5, 6]))
        assert max(float((moved.final[t] - other.final[t]).abs().max()) for t in moved.final) > 1e-2


@torch.inference_mode()
def test_steps_can_be_watched_and_some_pairs_asked_for():
    network = made(form="published")
    rows = {"depth": torch.tensor([0, 1]), "edge": torch.tensor([1])}
    seen: list[list] = [[], []]
    for each, steps in zip((network, streamlined(network)), seen, strict=True):
        found = each(pictures(), SeededNoise(3, [5, 6]), rows, lambda k, noisy, clean, s=steps: s.append(clean))
        steps.append(found.final)
    for one, other in zip(*seen, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("backbone", ALL_GONE)
@torch.inference_mode()
def test_no_normalisation_is_left_where_all_can_go(backbone):
    network = made(backbone=backbone, blocks=1)
    assert norms(network) > 10
    quick = streamlined(network)
    assert norms(quick) == 0
    assert_near(*(each(pictures(1), SeededNoise(0, [0])).final for each in (network, quick)))


class Tangled(nn.Module):
    """Every reason why a normalisation cannot go, and one that can."""

    def __init__(self):
        super().__init__()
        self.read_twice, self.after_read_twice = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.run_twice, self.after_run_twice = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.returned, self.after_returned = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.rescaled, self.after_rescaled = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.simple, self.after_simple = nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.read_twice(x)
        y = self.after_read_twice(y) + y.relu()
        for _ in range(2):
            y = self.after_run_twice(self.run_twice(y))
        kept = self.returned(y)
        y = nn.functional.conv2d(self.after_returned(kept), 2 * self.rescaled.weight)
        return self.after_simple(self.simple(self.after_rescaled(y))), kept


@torch.inference_mode()
def test_what_is_not_certain_is_left():
    network, x = lived(tangled()), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network(x)
    assert fold_batch_norms(network, lambda: network(x[:1])) == 1
    assert norms(network) == 4 and isinstance(network.after_simple, nn.Identity)
    for one, other in zip(before, network(x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def tangled() -> nn.Module:
    network = Tangled()
    network.refiner = None
    return network


def test_a_loaded_predictor_keeps_the_plain_network_and_answers_as_it_does():
    network = made()
    plain, quick = Predictor(copy.deepcopy(network), None), quick_predictor(network, None, torch.device("cpu"))
    assert norms(quick.network) == norms(plain.network) > 0
    image = pictures(1)[0]
    one, other = plain(image, samples=2), quick(image, samples=2)
    for name in one:
        torch.testing.assert_close(one[name].estimate, other[name].estimate, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one[name].initial, other[name].initial, atol=1e-4, rtol=1e-4)
    for before, after in zip(plain.steps(image), quick.steps(image), strict=True):
        torch.testing.assert_close(before["depth"], after["depth"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["correction", "published"])
def test_half_precision_is_near_and_its_answers_are_float32(form):
    network = made(form=form)
    plain = Predictor(copy.deepcopy(network), None)
    half = quick_predictor(network, None, torch.device("cpu"), "bf16")
    image = pictures(1)[0]
    one, other = plain(image), half(image)
    far = {}
    for name in one:
        assert other[name].estimate.dtype == torch.float32
        difference = (one[name].estimate - other[name].estimate).abs().mean()
        far[name] = float(difference) / max(1.0, float(one[name].estimate.abs().max()))
    assert 0 < max(far.values()) < 0.03, far
    batch = half.estimate(pictures(), [0, 1], samples=2, seed=0)
    assert all(found.mean.dtype == torch.float32 for found in batch.values())
    assert (
        quick_predictor(network, None, torch.device("cpu")).network.state_dict().keys() == network.state_dict().keys()
    )
