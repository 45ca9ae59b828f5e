"""Sparsification, reliability and the fits, on pixels whose answer is known."""

import math

import pytest
import torch

from diffusionmtl.metrics import calibration as mc
from diffusionmtl.metrics import sparsification as ms

AS_IT_IS = mc.Temperature(1.0, 0.0)


def sums(uncertainty: torch.Tensor, error: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    return ms.ranked_sums(uncertainty, error, torch.ones_like(error, dtype=torch.bool) if valid is None else valid)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_errors_of_one_and_zero():
    # A quarter is wrong: the oracle's mean error at a share f gone is (0.25 - f) / (1 - f), as a share of 0.25.
    error = torch.tensor([1.0] * 100 + [0.0] * 300)
    oracle = ms.sparsification(sums(error, error))
    for percent in (0, 10, 20, 25, 60):
        f = percent / 100
        assert oracle[percent] == pytest.approx(max(0, 0.25 - f) / (1 - f) / 0.25)
    assert ms.ause(sums(error, error), sums(error, error)) == 0
    # The integral of 1 - (0.25 - f) / (0.25 (1 - f)) over 0 to 0.25, and 1 from there to 0.99.
    first = 0.25 - (0.25 - 0.75 * math.log(4 / 3)) / 0.25
    assert ms.ause_of_chance(sums(error, error)) == pytest.approx(first + 0.74, abs=1e-3)


def test_equally_uncertain_pixels_go_by_chance():
    error = drawn(500)
    flat = sums(torch.full((500,), 0.3), error)
    assert ms.sparsification(flat).tolist() == pytest.approx([1.0] * 100)
    oracle = sums(error, error)
    assert ms.ause(flat, oracle) == pytest.approx(ms.ause_of_chance(oracle))


def test_only_the_order_of_uncertainties_counts():
    error = drawn(2000) + 0.1
    oracle = sums(error, error)
    assert ms.ause(sums(1e-5 * error.square(), error), oracle) == pytest.approx(0, abs=1e-3)
    backwards = ms.ause(sums(1 / error, error), oracle)
    noisy = ms.ause(sums(error * (0.5 + drawn(2000, seed=1)), error), oracle)
    assert 0.02 < noisy < ms.ause_of_chance(oracle) < backwards


def test_images_add_up_and_invalid_pixels_do_not_count():
    error, doubt = drawn(64), drawn(64, seed=1)
    valid = torch.arange(64) % 3 > 0
    whole = sums(doubt, error, valid)
    parts = sums(doubt[:20], error[:20], valid[:20]) + sums(doubt[20:], error[20:], valid[20:])
    assert torch.allclose(whole, parts)
    assert torch.allclose(whole, sums(doubt[valid], error[valid]))
    assert whole.sum(dim=1).tolist() == pytest.approx(
        [int(valid.sum()), float(doubt[valid].sum()), float(error[valid].sum())]
    )


def test_bins_span_zero_infinity_and_nan():
    found = ms.bin_of(torch.tensor([0.0, 1e-12, 1e9, math.inf, math.nan]))
    assert found.tolist() == [0, 0, ms.BINS - 1, ms.BINS - 1, ms.BINS - 1]
    doubt = torch.logspace(-8, 3, 5000, dtype=torch.float64)
    assert (ms.bin_of(doubt).diff() >= 0).all()
    one, next_ = ms.bin_of(torch.tensor([1.0, 1.015]))
    assert next_ > one


def test_nothing_measured_is_not_a_number():
    nothing = torch.zeros(3, ms.BINS, dtype=torch.float64)
    assert math.isnan(ms.ause(nothing, nothing))
    assert math.isnan(mc.calibration_error(torch.zeros(3, 15, dtype=torch.float64)))


def test_calibration_error_by_hand():
    # 10 pixels say 0.9 and 5 are right, 30 say 0.5 and 15 are right: (10 x 0.4 + 30 x 0) / 40.
    stated = torch.tensor([0.9] * 10 + [0.5] * 30)
    right = torch.tensor([1.0, 0.0] * 20)
    table = mc.reliability_sums(stated, right, torch.ones(40, dtype=torch.bool))
    assert mc.calibration_error(table) == pytest.approx(0.1)
    assert table[0].sum() == 40 and (table[0] > 0).sum() == 2
    surely = mc.reliability_sums(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([True, True]))
    assert surely[0, 0] == surely[0, -1] == 1 and mc.calibration_error(surely) == 0


def test_what_is_spoken():
    classes = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    stated, true = mc.spoken(classes, torch.tensor([0, 1]))
    assert stated.tolist() == pytest.approx([0.7, 0.6]) and true.tolist() == [1.0, 0.0]
    stated, true = mc.spoken(torch.tensor([[0.2], [0.9]]), torch.tensor([0, 1]))
    assert stated.tolist() == pytest.approx([0.2, 0.9]) and true.tolist() == [0.0, 1.0]


def test_entropy_is_a_share_of_the_largest():
    three = torch.tensor([[1 / 3] * 3, [1.0, 1e-12, 1e-12]]).log()
    assert mc.entropy(three).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    p = torch.tensor([0.5, 0.9])
    by_hand = -(p * p.log2() + (1 - p) * (1 - p).log2())
    assert mc.entropy(p.logit()[:, None]).tolist() == pytest.approx(by_hand.tolist(), abs=1e-6)
    assert mc.entropy(torch.tensor([[40.0]])) >= 0


def test_the_temperature_of_classes_is_found():
    odds = 2 * torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
    label = torch.multinomial((odds / 2.5).softmax(dim=1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    found = mc.fit_temperature(odds, label)
    assert found.temperature == pytest.approx(2.5, rel=0.1) and found.shift == 0
    everywhere = torch.ones(len(label), dtype=torch.bool)
    before, after = (
        mc.calibration_error(mc.reliability_sums(*mc.spoken(mc.probabilities(odds, t), label), everywhere))
        for t in (AS_IT_IS, found)
    )
    assert after < 0.02 < before
    assert (
        mc.negative_log_likelihood(odds, label, found).mean() < mc.negative_log_likelihood(odds, label, AS_IT_IS).mean()
    )


def test_the_shift_of_a_balanced_loss_is_found():
    # As a network answers that learnt boundaries with 19 times the weight: its odds are 19 times too high.
    truth = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) - 2
    label = (drawn(20_000, seed=1) < truth.sigmoid()).long()
    found = mc.fit_temperature((1.5 * (truth + math.log(19)))[:, None], label)
    assert found.temperature == pytest.approx(1.5, rel=0.1)
    assert found.shift == pytest.approx(-math.log(19), abs=0.15)


def test_answers_that_know_nothing_stay_within_bounds():
    odds = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log().repeat(50, 1)
    found = mc.fit_temperature(odds, torch.tensor([1, 0] * 50))
    assert 10 < found.temperature <= mc.HOTTEST
    never = mc.fit_temperature(torch.zeros(50, 1), torch.zeros(50, dtype=torch.int64))
    assert never.shift < -4 and math.isfinite(never.shift)


def test_scale_and_floor_of_errors_are_found():
    spread = 0.01 * drawn(40_000)
    error = -(30 * spread + 0.2) * drawn(40_000, seed=1).clamp(min=1e-9).log()
    found = mc.fit_scale(spread, error)
    assert found.scale == pytest.approx(30, rel=0.15) and found.floor == pytest.approx(0.2, rel=0.1)
    ranked = sums(spread, error)
    before, after = (mc.calibration_error(mc.expected_error_sums(ranked, x)) for x in (mc.Scale(1, 0), found))
    assert before == pytest.approx(float((error - spread).mean()), rel=0.01)
    assert after < 0.05 * before


def test_a_spread_that_says_nothing_becomes_the_mean_error():
    assert mc.fit_scale(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])) == mc.Scale(0.0, pytest.approx(2.0))
    unrelated = mc.fit_scale(drawn(20_000), -drawn(20_000, seed=1).clamp(min=1e-9).log())
    assert unrelated.floor + 0.5 * unrelated.scale == pytest.approx(1.0, rel=0.03) and unrelated.scale < 0.1


def test_all_that_foretells_errors_is_found_and_what_does_not_is_left_out():
    count = 60_000
    spread, classes, extent = 0.01 * drawn(count), drawn(count, seed=1), 1 + 4 * drawn(count, seed=2)
    noise = -drawn(count, seed=3).clamp(min=1e-9).log()
    error = (0.3 * classes + 0.1 * extent) * noise
    found = mc.fit_scale(spread, error, classes, extent)
    assert found.classes == pytest.approx(0.3, rel=0.1) and found.extent == pytest.approx(0.1, rel=0.1)
    assert found.scale * float(spread.mean()) + found.floor < 0.03
    oracle = sums(error, error)
    areas = [ms.ause(sums(doubt, error), oracle) for doubt in (spread, found.expected(spread, classes, extent))]
    assert areas[1] < areas[0] - 0.02
    # Without them, what is left is the mean error.
    blind = mc.fit_scale(spread, error)
    assert blind.expected(spread).mean() == pytest.approx(float(error.mean()), rel=0.02) and blind[2:] == (0.0, 0.0)
