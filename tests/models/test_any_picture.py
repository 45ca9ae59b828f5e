"""Pictures of any size and either type go in; predictions of that size come out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusionmtl.build import build_network
from diffusionmtl.config import NetworkSettings
from diffusionmtl.diffusion import NoNoise
from diffusionmtl.tasks import Depth, SurfaceNormals

TASKS = (Depth("depth"), SurfaceNormals("normals"))
sides = st.integers(1, 70)


@pytest.fixture(scope="module")
def network():
    return build_network(TASKS, NetworkSettings(width=8, blocks=1, form="published")).eval()


def pixels(height: int, width: int) -> torch.Tensor:
    shape, generator = (1, 3, height, width), torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@settings(max_examples=10)
@given(height=sides, width=sides)
def test_any_size(network, height, width):
    """The published network stops at sides that are no multiples of 32."""
    with torch.no_grad():
        output = network(pixels(height, width), NoNoise())
    for task in TASKS:
        assert output.canvas.to_image(output.final[task.name]).shape == (1, task.channels, height, width)


def test_what_is_added_is_the_mean_colour_at_the_right_and_bottom(network):
    image = pixels(40, 72).float() / 255
    larger = network.initial.mean.expand(1, 3, 64, 96).clone()
    larger[..., :40, :72] = image
    with torch.no_grad():
        ours, theirs = network(image, NoNoise()), network(larger, NoNoise())
    for task in TASKS:
        torch.testing.assert_close(ours.final[task.name], theirs.final[task.name])
        seen = theirs.canvas.to_image(theirs.final[task.name])[..., :40, :72]
        torch.testing.assert_close(ours.canvas.to_image(ours.final[task.name]), seen)


def test_bytes_and_fractions_are_the_same_picture(network):
    image = pixels(32, 64)
    with torch.no_grad():
        ours, theirs = network(image, NoNoise()), network(image.float() / 255, NoNoise())
    assert torch.equal(ours.final["depth"], theirs.final["depth"])
