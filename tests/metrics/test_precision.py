"""Thresholds that keep a precision, on maps whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.metrics.precision import LEVELS, kept_from, level_of, levels, most_kept, precision_counts
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
