"""Winograd's convolution is the convolution, within rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.inference import winograd
from diffusionmtl.inference.load import quick_predictor
from diffusionmtl.inference.winograd import WinogradConv, pays, use_winograd
from tests.toy import TASKS


def convolution(inside: int, outside: int, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, bias=bias).to(dtype).requires_grad_(False)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 2),
    height=st.integers(1, 37),
    width=st.integers(1, 37),
    inside=st.integers(1, 4),
    outside=st.integers(1, 4),
    bias=st.booleans(),
    at_once=st.integers(1, 40),
)
def test_any_map_gets_what_the_plain_convolution_gives_it(images, height, width, inside, outside, bias, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "TILES_AT_ONCE", at_once)
        patch.setattr(winograd, "LEAST_CELLS", 0)
        plain = convolution(inside, outside, bias)
        x = torch.randn(images, inside, height, width, dtype=torch.float64)
        torch.testing.assert_close(WinogradConv(plain)(x), plain(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_float32_it_is_off_by_less_than_a_ten_thousandth_of_the_largest(layout):
    plain = convolution(256, 256, dtype=torch.float32)
    x = torch.randn(2, 256, 24, 20).contiguous(memory_format=layout)
    answer, right = WinogradConv(plain)(x), plain.double()(x.double())
    assert (answer - right).abs().max() < 2e-5 * right.abs().max()
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_an_image_gets_the_same_bits_alone_and_in_company():
    fast = WinogradConv(convolution(8, 8, dtype=torch.float32))
    x = torch.randn(3, 8, 20, 28)
    assert torch.equal(fast(x)[1:2], fast(x[1:2]))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(256, 256, 3, padding=1), True),
        (nn.Conv2d(255, 256, 3, padding=1), False),
        (nn.Conv2d(256, 256, 3, padding=1, stride=2), False),
        (nn.Conv2d(256, 256, 3, padding=2, dilation=2), False),
        (nn.Conv2d(256, 256, 3, padding=1, groups=2), False),
        (nn.Conv2d(256, 256, 3), False),
        (nn.Conv2d(256, 256, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(256, 256, 1), False),
    ],
)
def test_only_what_it_can_do_and_gains_by_is_replaced(layer, expected):
    assert pays(layer) is expected
    assert use_winograd(nn.Sequential(layer)) == expected


def test_a_wide_network_answers_by_it_and_keeps_its_answers():
    torch.manual_seed(0)
    network = build_network(
        TASKS, NetworkSettings(backbone="test_resnet", width=256, blocks=1, form="published")
    ).eval()
    image = torch.randint(0, 256, (1, 3, 96, 64), dtype=torch.uint8)
    quick = quick_predictor(network, None, torch.device("cpu"))._quick
    assert any(isinstance(layer, WinogradConv) for layer in quick.modules())
    with torch.inference_mode():
        plain, fast = (each(image, SeededNoise(0, [0])).final for each in (network, quick))
    for task, raw in plain.items():
        assert (fast[task] - raw).abs().max() < 1e-4 * raw.abs().max().clamp(min=1), task
    assert not any(isinstance(layer, WinogradConv) for layer in network.modules())
