"""The samplers against an independent implementation and against closed forms."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.diffusion import Schedule, ddim, ddpm, q_sample, scaled_linear_schedule

many_betas = st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=6).map(tuple)
seeds = st.integers(0, 1000)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def denoiser(noisy: torch.Tensor, k: int) -> torch.Tensor:
    """Anything that depends on signal and step."""
    return torch.tanh(noisy + 0.1 * k) - 0.2


@pytest.fixture(scope="module")
def judges() -> SimpleNamespace:
    diffusers = pytest.importorskip("diffusers")
    common = {"prediction_type": "sample", "clip_sample": False, "timestep_spacing": "leading"}

    def in_float64(kind, schedule: Schedule, **options):
        scheduler = kind(len(schedule.betas), trained_betas=list(schedule.betas), **common, **options)
        scheduler.betas = torch.tensor(schedule.betas, dtype=torch.float64)
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        scheduler.set_timesteps(schedule.steps)
        return scheduler

    return SimpleNamespace(
        ddpm=lambda schedule: in_float64(diffusers.DDPMScheduler, schedule, variance_type="fixed_small"),
        ddim=lambda schedule: in_float64(diffusers.DDIMScheduler, schedule, set_alpha_to_one=True),
        scaled_linear=lambda steps: (
            diffusers.DDPMScheduler(steps, beta_start=1e-3, beta_end=1e-2, beta_schedule="scaled_linear").betas
        ),
    )


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_schedule_against_diffusers(judges, steps):
    ours = torch.tensor(scaled_linear_schedule(steps).betas, dtype=torch.float32)
    torch.testing.assert_close(ours, judges.scaled_linear(steps))


@given(betas=many_betas, seed=seeds)
def test_q_sample_against_diffusers(judges, betas, seed):
    schedule = Schedule(betas)
    clean, noise = randn(3, 4, seed=seed), randn(3, 4, seed=seed + 1)
    for k in range(schedule.steps):
        expected = judges.ddpm(schedule).add_noise(clean, noise, torch.full((3,), k))
        torch.testing.assert_close(q_sample(schedule, clean, k, noise), expected, rtol=1e-9, atol=1e-9)


@given(betas=many_betas, seed=seeds)
def test_ddpm_against_diffusers(judges, betas, seed):
    schedule = Schedule(betas)
    start, judge = randn(2, 3, seed=seed), judges.ddpm(schedule)
    theirs, generator, path = start, torch.Generator().manual_seed(seed), {}
    for step in judge.timesteps:
        path[int(step)] = theirs
        theirs = judge.step(denoiser(theirs, int(step)), step, theirs, generator=generator).prev_sample

    shared, seen = torch.Generator().manual_seed(seed), {}
    ours = ddpm(
        schedule,
        {"a": start},
        lambda signals, k: {"a": denoiser(signals["a"], k)},
        lambda _name, _k, like: torch.randn(like.shape, generator=shared, dtype=like.dtype),
        lambda k, noisy, _clean: seen.__setitem__(k, noisy["a"]),
    )["a"]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert list(seen) == list(path) == list(reversed(range(schedule.steps)))
    for k in seen:
        torch.testing.assert_close(seen[k], path[k], rtol=1e-9, atol=1e-9)


@given(betas=many_betas, seed=seeds)
def test_ddim_against_diffusers(judges, betas, seed):
    schedule = Schedule(betas)
    start, judge = randn(2, 3, seed=seed), judges.ddim(schedule)
    theirs = start
    for step in judge.timesteps:
        theirs = judge.step(denoiser(theirs, int(step)), step, theirs, eta=0.0).prev_sample
    ours = ddim(schedule, {"a": start}, lambda signals, k: {"a": denoiser(signals["a"], k)})["a"]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@given(betas=many_betas, seed=seeds)
def test_an_oracle_lands_on_the_clean_signal_exactly(betas, seed):
    schedule = Schedule(betas)
    clean = {"a": randn(2, 3, seed=seed), "b": randn(4, seed=seed + 1)}
    start = {
        name: q_sample(schedule, x, schedule.steps - 1, randn(*x.shape, seed=seed + 2)) for name, x in clean.items()
    }
    for landed in (
        ddpm(schedule, start, lambda _signals, _k: clean, lambda _name, k, like: randn(*like.shape, seed=seed + k)),
        ddim(schedule, start, lambda _signals, _k: clean),
    ):
        assert landed.keys() == clean.keys()
        assert all(torch.equal(landed[name], clean[name]) for name in clean)


@given(betas=many_betas, seed=seeds)
def test_ddim_with_an_oracle_keeps_the_noise_it_started_with(betas, seed):
    """x_k of the reverse path is the clean signal diffused to step k with the very same draw."""
    schedule = Schedule(betas)
    clean, noise = randn(5, seed=seed), randn(5, seed=seed + 1)
    path = {}
    start = q_sample(schedule, clean, schedule.steps - 1, noise)
    ddim(schedule, {"a": start}, lambda _x, _k: {"a": clean}, lambda k, noisy, _c: path.__setitem__(k, noisy["a"]))
    for k, noisy in path.items():
        torch.testing.assert_close(noisy, q_sample(schedule, clean, k, noise), rtol=1e-7, atol=1e-7)


def test_ddpm_with_an_oracle_has_the_moments_of_the_forward_process():
    """Going back from x_2 by the posterior leaves x_1 and x_0 distributed as q says, within five standard errors."""
    schedule, count = Schedule((0.1, 0.3, 0.2)), 200_000
    clean = torch.tensor([1.5, -0.5]).double().expand(count, 2)
    generator, path = torch.Generator().manual_seed(0), {}

    def draw(_name: str, _k: int, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    start = q_sample(schedule, clean, 2, draw("a", 2, clean))
    ddpm(schedule, {"a": start}, lambda _x, _k: {"a": clean}, draw, lambda k, x, _c: path.__setitem__(k, x["a"]))
    for k, noisy in path.items():
        variance = 1 - schedule.signal_power(k)
        mean = schedule.signal_power(k) ** 0.5 * clean[0]
        assert (noisy.mean(0) - mean).abs().max() < 5 * (variance / count) ** 0.5
        assert (noisy.var(0) - variance).abs().max() < 5 * variance * (2 / count) ** 0.5


def test_signals_of_several_names_are_denoised_side_by_side():
    schedule = scaled_linear_schedule(3)
    start = {"a": randn(2, 3, seed=0), "b": randn(5, seed=1)}

    def run(names):
        draws = {"a": 10, "b": 20}
        return ddpm(
            schedule,
            {name: start[name] for name in names},
            lambda signals, k: {name: denoiser(x, k) for name, x in signals.items()},
            lambda name, k, like: randn(*like.shape, seed=draws[name] + k),
        )

    together = run(["a", "b"])
    assert torch.equal(together["a"], run(["a"])["a"])
    assert torch.equal(together["b"], run(["b"])["b"])


def test_no_noise_is_asked_for_at_the_last_step():
    asked = []
    ddpm(
        scaled_linear_schedule(4),
        {"a": torch.zeros(2)},
        lambda signals, _k: signals,
        lambda name, k, like: asked.append((name, k)) or like,
    )
    assert asked == [("a", 3), ("a", 2), ("a", 1)]
