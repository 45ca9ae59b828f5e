"""The forward process and its posterior: known figures, closed forms, moments of many draws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.diffusion import Schedule, posterior_mean, q_sample, scaled_linear_schedule

many_betas = st.lists(st.floats(1e-4, 0.5), min_size=1, max_size=6).map(tuple)


def test_the_published_schedule():
    """Figures as the reference tables give them for two steps."""
    schedule = scaled_linear_schedule(2)
    assert schedule.betas == pytest.approx((0.001, 0.01))
    assert [schedule.signal_power(k) for k in (-1, 0, 1)] == pytest.approx([1, 0.999, 0.98901])
    assert schedule.posterior(1) == pytest.approx((0.90946303, 0.09053571, 9.0991811e-4), rel=1e-7)
    assert schedule.posterior(0) == pytest.approx((1, 0, 0))


def test_three_steps_and_one():
    assert scaled_linear_schedule(3).betas == pytest.approx((0.001, 0.00433, 0.01), abs=5e-6)
    assert scaled_linear_schedule(1).betas == pytest.approx((0.001,))
    assert scaled_linear_schedule(1, 0.2, 0.9).betas == pytest.approx((0.2,))


@given(st.integers(2, 50), st.floats(1e-4, 0.1), st.floats(0.1, 0.9))
def test_roots_of_betas_are_equally_spaced(steps, start, end):
    betas = scaled_linear_schedule(steps, start, end).betas
    assert (betas[0], betas[-1]) == pytest.approx((start, end))
    np.testing.assert_allclose(np.diff(np.sqrt(betas)), (end**0.5 - start**0.5) / (steps - 1), rtol=1e-9)


@pytest.mark.parametrize("betas", [(), (0.0,), (0.1, 1.0), (-0.1,), (math.nan,)])
def test_betas_that_are_no_variances_are_refused(betas):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Schedule(betas)


@given(many_betas)
def test_noising_step_by_step_is_noising_at_once(betas):
    """x_k = sqrt(1 - beta_k) x_(k-1) + sqrt(beta_k) noise: weights of signal and noise after all steps."""
    schedule = Schedule(betas)
    signal, variance = 1.0, 0.0
    for k, beta in enumerate(schedule.betas):
        signal, variance = signal * (1 - beta) ** 0.5, variance * (1 - beta) + beta
        clean, noise = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
        assert q_sample(schedule, clean, k, noise).tolist() == pytest.approx([signal, variance**0.5], rel=1e-9)


@given(many_betas)
def test_posterior_is_the_product_of_two_gaussians(betas):
    """By Bayes: q(x_(k-1) | x_k, x_0) is proportional to q(x_k | x_(k-1)) q(x_(k-1) | x_0)."""
    schedule = Schedule(betas)
    for k in range(1, schedule.steps):
        beta, before = schedule.betas[k], schedule.signal_power(k - 1)
        precision = (1 - beta) / beta + 1 / (1 - before)
        on_clean, on_noisy, variance = schedule.posterior(k)
        assert variance == pytest.approx(1 / precision, rel=1e-9)
        assert on_clean == pytest.approx(before**0.5 / (1 - before) / precision, rel=1e-9)
        assert on_noisy == pytest.approx((1 - beta) ** 0.5 / beta / precision, rel=1e-9)


@given(many_betas)
def test_posterior_of_the_first_step_is_the_clean_signal(betas):
    schedule = Schedule(betas)
    clean, noisy = torch.tensor([2.0, -1.0]).double(), torch.tensor([9.0, 9.0]).double()
    torch.testing.assert_close(posterior_mean(schedule, clean, noisy, 0), clean)


def test_moments_of_many_draws():
    """Mean and variance of x_k over 200,000 draws, within five standard errors."""
    schedule, count = Schedule((0.1, 0.3, 0.2)), 200_000
    clean = torch.tensor([1.5, -0.5]).double().expand(count, 2)
    for k in range(3):
        noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        noisy = q_sample(schedule, clean, k, noise)
        variance = 1 - schedule.signal_power(k)
        mean = schedule.signal_power(k) ** 0.5 * clean[0]
        assert (noisy.mean(0) - mean).abs().max() < 5 * (variance / count) ** 0.5
        assert (noisy.var(0) - variance).abs().max() < 5 * variance * (2 / count) ** 0.5
