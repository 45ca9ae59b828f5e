"""The ablation "without diffusion": the same network, no noise."""

import torch

from diffusionmtl import create
from diffusionmtl.diffusion import NoNoise, SeededNoise
from tests.toy import TASKS

SMALL = {"backbone": "resnet10t", "width": 16, "token_stride": 2, "form": "published"}


def image() -> torch.Tensor:
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def test_has_the_weights_of_the_full_method() -> None:
    full, without = create("prediction", TASKS, **SMALL), create("prediction", TASKS, diffusion=False, **SMALL)
    assert {k: v.shape for k, v in full.state_dict().items()} == {k: v.shape for k, v in without.state_dict().items()}


def test_draws_no_noise() -> None:
    network = create("feature", TASKS, diffusion=False, **SMALL).eval()
    with torch.no_grad():
        one, other = (network(image(), SeededNoise(seed, (0, 1))).final for seed in (1, 2))
    assert all(torch.equal(one[task], other[task]) for task in one)


def test_one_step_differs_from_a_noiseless_diffusion_only_by_the_scale_of_the_signal() -> None:
    settings = {**SMALL, "steps": 1, "noise_start": 1e-9}
    full, without = create("feature", TASKS, **settings), create("feature", TASKS, diffusion=False, **settings)
    with torch.no_grad():
        for task in TASKS:
            torch.testing.assert_close(
                full.eval()(image(), NoNoise()).final[task.name],
                without.eval()(image(), NoNoise()).final[task.name],
                rtol=1e-4,
                atol=1e-5,
            )
