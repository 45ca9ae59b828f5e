"""Every sampler is asked the same: what it returns, what it asks for, and what it leaves alone."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.diffusion import Schedule, ddim, ddpm, q_sample, repeated, scaled_linear_schedule


def seeded(seed: int):
    """Noise per (name, step), the same whenever it is asked for."""

    def draw(name: str, step: int, like: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed * 1000 + step * 10 + len(name))
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    return draw


def with_draw(sampler, seed: int = 0):
    """Both samplers under one signature: (schedule, start, estimate, watch)."""
    return partial(sampler, draw=seeded(seed)) if sampler is ddpm else sampler


every_sampler = pytest.mark.parametrize("sampler", [ddpm, ddim, repeated])
steps = st.integers(1, 6)
seeds = st.integers(0, 1000)


def signals(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (2, 3, 4, 5), "bb": (1, 2, 4, 5), "none": (0, 7, 4, 5)}
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def noised(schedule: Schedule, clean: dict[str, torch.Tensor], seed: int = 1) -> dict[str, torch.Tensor]:
    draw = seeded(seed)
    last = schedule.steps - 1
    return {name: q_sample(schedule, x, last, draw(name, schedule.steps, x)) for name, x in clean.items()}


def halved(noisy, step):
    return {name: x / 2 for name, x in noisy.items()}


@every_sampler
class TestEverySampler:
    @given(count=steps, seed=seeds)
    def test_who_knows_the_clean_signal_gets_it_back_whatever_the_noise(self, sampler, count, seed):
        schedule, clean = scaled_linear_schedule(count), signals(seed)
        found = with_draw(sampler, seed)(schedule, noised(schedule, clean), estimate=lambda noisy, step: clean)
        assert all(torch.equal(found[name], clean[name]) for name in clean)

    @given(count=steps)
    def test_every_step_is_asked_once_from_the_noisiest_down(self, sampler, count):
        schedule, asked, seen = scaled_linear_schedule(count), [], []

        def estimate(noisy, step):
            asked.append((step, noisy))
            return halved(noisy, step)

        start = signals(0)
        found = with_draw(sampler)(
            schedule, start, estimate=estimate, watch=lambda step, noisy, clean: seen.append((step, noisy, clean))
        )
        assert [step for step, _ in asked] == [step for step, _, _ in seen] == list(reversed(range(count)))
        assert asked[0][1] is start and all(noisy is told for (_, noisy), (_, told, _) in zip(asked, seen, strict=True))
        assert all(torch.equal(found[name], seen[-1][2][name]) for name in start)

    @given(count=steps, seed=seeds)
    def test_names_shapes_and_types_stay(self, sampler, count, seed):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            start = signals(seed, dtype)
            found = with_draw(sampler)(scaled_linear_schedule(count), start, estimate=halved)
            assert list(found) == list(start)
            assert all(found[name].shape == x.shape and found[name].dtype == dtype for name, x in start.items())

    @given(count=steps, seed=seeds)
    def test_what_is_handed_in_is_left_as_it_was(self, sampler, count, seed):
        start = signals(seed)
        with_draw(sampler)(scaled_linear_schedule(count), start, estimate=halved)
        assert all(torch.equal(x, y) for x, y in zip(start.values(), signals(seed).values(), strict=True))

    @given(count=steps, seed=seeds)
    def test_the_same_noise_gives_the_same_bits(self, sampler, count, seed):
        schedule, before = scaled_linear_schedule(count), torch.get_rng_state()
        one, other = (with_draw(sampler, seed)(schedule, signals(seed), estimate=halved) for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_gradient_flows_through_every_step(self, sampler):
        factors = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
        start = {name: x.requires_grad_() for name, x in signals(0).items()}
        found = with_draw(sampler)(
            scaled_linear_schedule(3), start, estimate=lambda noisy, k: {n: x * factors[k] for n, x in noisy.items()}
        )
        sum(x.sum() for x in found.values()).backward()
        assert bool((factors.grad != 0).all())
        assert bool((start["a"].grad != 0).all())

    def test_one_step_is_one_guess(self, sampler):
        start = signals(3)
        found = with_draw(sampler)(scaled_linear_schedule(1), start, estimate=halved)
        assert all(torch.equal(found[name], x / 2) for name, x in start.items())
