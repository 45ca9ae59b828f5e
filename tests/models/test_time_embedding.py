"""The embedding of a diffusion step: known waves, in every precision."""

import math

import pytest
import torch

from diffusionmtl.models.blocks import TimeEmbedding, sinusoids


def test_known_waves():
    waves = sinusoids(3, 4, 100.0)
    expected = [math.cos(3), math.cos(0.3), math.sin(3), math.sin(0.3)]
    torch.testing.assert_close(waves, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_step_zero():
    assert sinusoids(0, 6, 10_000.0).tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_waves_are_rounded_once(dtype):
    """A network cast to a coarse precision embeds the exact waves, not those of coarse frequencies."""
    embedding = TimeEmbedding(8).to(dtype)
    seen = []
    embedding.fc1.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    assert embedding(7).dtype == dtype
    assert torch.equal(seen[0], sinusoids(7, 256, 10_000.0).to(dtype))


def test_nothing_but_weights_is_kept():
    assert {name for name, _ in TimeEmbedding(8).named_buffers()} == set()
    assert set(TimeEmbedding(8).state_dict()) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
