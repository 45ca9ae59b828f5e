"""Thresholds that keep a precision, on maps whose answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.metrics.precision import (
    LEVELS,
    Tally,
    kept_from,
    level_of,
    levels,
    most_kept,
    precision_counts,
    surely_kept,
)
from diffusionmtl.metrics.precision import threshold_of as confidence_of


def counts(confidence: list[float], right: list[bool], valid: list[bool] | None = None) -> torch.Tensor:
    known = torch.tensor([True] * len(right) if valid is None else valid, dtype=torch.bool)
    return precision_counts(levels(torch.tensor(confidence)), torch.tensor(right, dtype=torch.bool), known)


def test_right_above_a_confidence_and_wrong_half_of_the_time_below():
    # 60 pixels at 0.8 all right, 40 at 0.4 of which 20 are: everything is 80 % right.
    map_ = counts([0.8] * 60 + [0.4] * 40, [True] * 80 + [False] * 20)
    everything = most_kept(map_, 0.8)
    assert everything is not None and (everything.share, everything.precision) == (1.0, 0.8)
    surest = most_kept(map_, 0.81)
    assert surest is not None and (surest.share, surest.precision) == (0.6, 1.0)
    assert confidence_of(surest.level) == pytest.approx(0.8, abs=1 / LEVELS)


def test_of_several_thresholds_the_one_that_keeps_most():
    # From the top: right, wrong (1/2), then eight right ones (9/10).
    map_ = counts([0.9, 0.8] + [0.5] * 8, [True, False] + [True] * 8)
    found = most_kept(map_, 0.9)
    assert found is not None and found.share == 1.0
    strict = most_kept(map_, 0.95)
    assert strict is not None and strict.share == 0.1


def test_a_precision_out_of_reach():
    assert most_kept(counts([0.9, 0.8, 0.7], [False, True, True]), 0.95) is None
    assert most_kept(counts([], []), 0.5) is None
    # One right pixel of ten thousand at the top is luck.
    lucky = counts([1.0] + [0.5] * 9_999, [True] + [False] * 9_999)
    assert most_kept(lucky, 0.95) is None
    assert most_kept(lucky, 0.95, least_share=0.0) is not None


def test_invalid_pixels_do_not_count():
    map_ = counts([0.9, 0.9, 0.2], [True, False, False], [True, False, True])
    assert map_[1].sum() == 2
    found = most_kept(map_, 1.0)
    assert found is not None and (found.share, found.precision) == (0.5, 1.0)


def test_levels_are_those_of_a_16_bit_picture():
    assert levels(torch.tensor([0.0, 1.0, math.nan, 2.0, -1.0])).tolist() == [0, LEVELS - 1, 0, LEVELS - 1, 0]
    assert [level_of(x) for x in (0.0, 1.0)] == [0, LEVELS - 1]
    nothing = kept_from(counts([0.5], [True]), LEVELS)
    assert math.isnan(nothing.precision) and nothing.share == 0


@given(st.floats(0, 1))
def test_what_has_the_confidence_of_a_threshold_is_kept(threshold):
    level = level_of(threshold)
    assert confidence_of(level) >= threshold - 1e-12
    assert level == 0 or confidence_of(level - 1) < threshold


def test_some_pixels_may_have_to_keep_the_precision_by_themselves():
    """Lines: nearly every answer is no and right, and the few yes are wrong more often than not."""
    sure, answers = [0.9] * 98 + [0.9, 0.8], [True] * 98 + [False, True]
    everything, yes = counts(sure, answers), counts(sure[98:], answers[98:])
    assert most_kept(everything, 0.95) is not None
    assert most_kept(everything, 0.95, among=yes) is None
    better = counts([0.95, *sure[98:]], [True, False, True])
    found = most_kept(everything + counts([0.95], [True]), 0.6, among=better)
    assert found is not None and found.level == int(levels(torch.tensor([0.8]))[0])
    assert most_kept(everything, 0.5, among=counts([], [])) is None, "something has to be called yes"


def of_sizes(*images: tuple[int, int], confidence: float = 0.9) -> Tally:
    """A tally of images that have so many right and wrong pixels, all of one confidence."""
    return Tally.of(*(counts([confidence] * (r + w), [True] * r + [False] * w) for r, w in images))


class TestBoundOverImages:
    def test_of_images_of_one_size_it_is_student_s_of_their_precisions(self):
        shares = np.array([0.9, 0.8, 0.95, 0.85])
        tally = of_sizes(*((round(20 * p), round(20 * (1 - p))) for p in shares))
        shares = np.append(shares, shares.mean() * 4 / 5)  # the image that stands for those nobody saw
        bound = shares.mean() - 2.131847 * shares.std(ddof=1) / 5**0.5
        assert float(tally.at_least()[0]) == pytest.approx(bound, abs=1e-6)

    def test_many_times_the_same_images_cost_nothing(self):
        few, many = (of_sizes(*[(19, 1), (16, 4)] * times) for times in (2, 200))
        assert float(few.at_least()[0]) < 0.75 and float(many.at_least()[0]) == pytest.approx(0.875, abs=0.008)

    def test_one_image_of_a_million_pixels_is_one_image(self):
        one = of_sizes((999_999, 1))
        assert float(one.at_least().max()) == 0 and surely_kept(one, 0.01) is None
        assert surely_kept(Tally.of(), 0.01) is None
        # Beside it nine empty ones say nothing either.
        assert float((one + of_sizes(*[(0, 0)] * 9)).at_least()[0]) == 0

    def test_images_that_are_right_everywhere_promise_more_the_more_they_are(self):
        bounds = [float(of_sizes(*[(20, 0)] * images).at_least()[0]) for images in (2, 4, 10, 100)]
        assert bounds == sorted(bounds) and bounds[0] < 0.6 and 0.8 < bounds[1] < 0.9 < bounds[2] and bounds[3] > 0.999

    def test_a_chance_agreement_below_stricter_failures_does_not_pass(self):
        """Images that are unlike at 0.9 and agree to the pixel with what 0.8 adds."""
        upper = [counts([0.9] * 20, [True] * right + [False] * (20 - right)) for right in (20, 12)]
        lower = [counts([0.8] * 8, [right] * 8) for right in (False, True)]
        both = Tally.of(*(one + other for one, other in zip(upper, lower, strict=True)))
        many = sum([both] * 4, both)
        strict, loose = many.at_least()[levels(torch.tensor([0.9, 0.8])).long()]
        assert strict < 0.69 < loose < 20 / 28
        assert surely_kept(many, 0.69) is None

    def test_the_yes_have_to_keep_it_by_themselves(self):
        everything, yes = of_sizes(*[(99, 1)] * 6), of_sizes(*[(1, 1)] * 6)
        assert surely_kept(everything, 0.9) is not None
        assert surely_kept(everything, 0.9, among=yes) is None

    @pytest.mark.parametrize("images", [3, 5, 12])
    def test_it_holds_on_other_images_where_the_estimate_does_not(self, images):
        """Images of their own difficulty, and confidences that are wrong in each in its own way.

        The bound holds in about nine of ten draws of the held-out images; the estimate in about half.
        """
        generator = np.random.default_rng(images)
        true = torch.stack(simulated(1000, generator)).sum(dim=0)
        held: dict[str, list[bool]] = {"estimate": [], "bound": []}
        nothing = 0
        for _ in range(60):
            seen = Tally.of(*simulated(images, generator))
            for rule, found in {"estimate": most_kept(seen.counts, 0.9), "bound": surely_kept(seen, 0.9)}.items():
                held[rule].append(found is None or kept_from(true, found.level).precision >= 0.9)
                nothing += found is None and rule == "bound"
        assert np.mean(held["bound"]) >= 0.85
        assert np.mean(held["estimate"]) <= 0.7
        assert images < 12 or nothing <= 15, "a bound that promises nothing holds, and is none"


def simulated(images: int, generator: np.random.Generator) -> list[torch.Tensor]:
    """Counts of images of 400 pixels of which each image has its own share of errors."""
    logit = np.log(1 / generator.beta(2, 1, size=(images, 400)).clip(1e-6, 1 - 1e-6) - 1) * -1
    chance = 1 / (1 + np.exp(-(1.2 * logit + 1 + generator.normal(0, 0.7, size=(images, 1)))))
    right = torch.from_numpy(generator.random(chance.shape) < chance)
    stated = torch.from_numpy(1 / (1 + np.exp(-(logit + generator.normal(0, 0.5, size=(images, 1))))))
    # Coarser, as 65,536 levels of few pixels each would only take time.
    level = levels((stated * 100).round() / 100)
    everywhere = torch.ones_like(right)
    return [precision_counts(*one) for one in zip(level, right, everywhere, strict=True)]
