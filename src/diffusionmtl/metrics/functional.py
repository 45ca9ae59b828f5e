"""Metric arithmetic as plain functions: images become counts or sums, counts become scores.

Every count is a tensor that may be added over batches, processes and images before a score is taken, so a score of a
data set is pooled over its pixels and never an average of per-image scores. Counts are int64, sums float64.

Every ratio is returned in PERCENT (0 to 100), angles in degrees, depth errors in the unit of the labels. A score that
nothing was measured for is NaN, not 0.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer, Shaped
from torch import Tensor

from diffusionmtl.maps import length, unit

THRESHOLDS_19: tuple[float, ...] = tuple(k / 20 for k in range(1, 20))
"""0.05, 0.10, ..., 0.95: the thresholds of the pooled maxF (reference tables, PASCAL-Context)."""

ANGLE_BINS = 18000
"""Bins of the histogram of angular errors: 0.01 degrees each, 0 to 180 degrees."""

_BINS_PER_DEGREE = ANGLE_BINS // 180
_PUBLISHED_SMALLEST_DEPTH = 1e-9


def _bin_counts(index: Integer[Tensor, "*pixels"], keep: Bool[Tensor, "*pixels"], bins: int) -> Int64[Tensor, "bins"]:
    # One bin too many collects what is left out: cheaper than selecting, and no size depends on the data.
    routed = torch.where(keep, index.long(), bins)
    return torch.bincount(routed.flatten(), minlength=bins + 1)[:bins]


def _ratio(numerator: Tensor, denominator: Tensor, empty: float) -> Float64[Tensor, "..."]:
    value = numerator.double() / denominator.double().clamp(min=1)
    return torch.where(denominator > 0, value, empty)


def confusion_matrix(
    prediction: Integer[Tensor, "*pixels"],
    label: Integer[Tensor, "*pixels"],
    valid: Bool[Tensor, "*pixels"],
    classes: int,
) -> Int64[Tensor, "classes classes"]:
    """Counts of valid pixels: row = class of the label, column = predicted class.

    A pixel whose label lies outside 0..classes-1 is left out, whatever `valid` says. Matrices of batches add up.

    Raises:
        ValueError: a prediction at a counted pixel lies outside 0..classes-1.
    """
    counted = valid & (label >= 0) & (label < classes)
    if (counted & ((prediction < 0) | (prediction >= classes))).any():
        raise ValueError(f"prediction has class indices outside 0..{classes - 1}; take the arg max over the classes")
    cell = label.long() * classes + prediction.long()
    return _bin_counts(cell, counted, classes * classes).view(classes, classes)


def iou_per_class(matrix: Int64[Tensor, "c c"]) -> Float64[Tensor, "c"]:
    """Intersection over union of each class in percent; NaN for a class that neither labels nor predictions contain."""
    intersection = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return 100 * _ratio(intersection, union, empty=float("nan"))


def mean_iou(matrix: Int64[Tensor, "c c"], absent: Literal["nan", "zero"] = "nan") -> Float64[Tensor, ""]:
    """Mean over the classes of the pooled intersection over union, in percent.

    `absent` says what becomes of a class that neither labels nor predictions of the whole set contain: "nan" leaves it
    out of the mean (NaN if that leaves no class), "zero" counts it as 0 as the published meter does.
    """
    iou = iou_per_class(matrix)
    return iou.nan_to_num(0.0).mean() if absent == "zero" else iou.nanmean()


def pixel_accuracy(matrix: Int64[Tensor, "c c"]) -> Float64[Tensor, ""]:
    """Share of the valid pixels whose class is predicted right, in percent; NaN without valid pixels."""
    return 100 * _ratio(matrix.diagonal().sum(), matrix.sum(), empty=float("nan"))


def threshold_counts(
    probability: Float[Tensor, "*pixels"],
    label: Shaped[Tensor, "*pixels"],
    valid: Bool[Tensor, "*pixels"],
    thresholds: Sequence[float] = THRESHOLDS_19,
) -> Int64[Tensor, "3 t"]:
    """True positives, predicted positives and actual positives among the valid pixels, per threshold.

    A pixel is predicted positive where `probability >= threshold`, and positive where `label > 0.5` (bool, 0/1 integers
    and floats alike). NaN is never predicted positive. `thresholds` ascend. Counts of batches add up.
    """
    edges = torch.tensor(thresholds, dtype=probability.dtype, device=probability.device)
    passed = torch.bucketize(probability.nan_to_num(nan=float("-inf")), edges, right=True)
    positive = label > 0.5
    count = len(thresholds)
    by_passed = torch.stack(
        [_bin_counts(passed, valid & positive, count + 1), _bin_counts(passed, valid & ~positive, count + 1)]
    )
    # A pixel that passes k thresholds is predicted positive at the first k of them.
    true_positive, false_positive = by_passed.flip(1).cumsum(1).flip(1)[:, 1:]
    actual = by_passed[0].sum().expand(count)
    return torch.stack([true_positive, true_positive + false_positive, actual])


def f_per_threshold(counts: Int64[Tensor, "*sets 3 t"], beta_squared: float = 0.3) -> Float64[Tensor, "*sets t"]:
    """F of each threshold in percent: (1 + b) P R / (b P + R) with b = `beta_squared`; 0 without a true positive.

    NaN where nothing is labelled positive and nothing predicted so.
    """
    true_positive, predicted, actual = counts.double().unbind(-2)
    # The same F without the quotients P and R, which are 0/0 where nothing is predicted or nothing labelled, in a form
    # whose rounding never makes the perfect more than 100.
    found = (1 + beta_squared) * true_positive
    weighted = found + beta_squared * (actual - true_positive) + (predicted - true_positive)
    return torch.where(weighted > 0, 100 * (found / weighted), float("nan"))


def max_f(counts: Int64[Tensor, "*sets 3 t"], beta_squared: float = 0.3) -> Float64[Tensor, "*sets"]:
    """Largest F over the thresholds, in percent, precision and recall being pooled (protocol `pooled19` of maxF).

    NaN where no threshold has an F: no positive label and no positive prediction.
    """
    return _largest(f_per_threshold(counts, beta_squared))


def _largest(values: Float64[Tensor, "*sets t"]) -> Float64[Tensor, "*sets"]:
    largest = values.nan_to_num(nan=-1.0).amax(dim=-1)
    return torch.where(largest < 0, float("nan"), largest)


def iou_per_threshold(counts: Int64[Tensor, "3 t"]) -> Float64[Tensor, "t"]:
    """Intersection over union of the positive class per threshold, in percent; NaN where nothing is positive.

    The IoU at probability 0.5 is element 9 for `THRESHOLDS_19`.
    """
    true_positive, predicted, actual = counts
    return 100 * _ratio(true_positive, predicted + actual - true_positive, empty=float("nan"))


def published_squash(probability: Float[Tensor, "*pixels"]) -> Float[Tensor, "*pixels"]:
    """What the published saliency and boundary meters make of a probability: one sigmoid more, so 0.5 to 0.731.

    Thresholding this instead of the probability reproduces the published maxF (protocol `published`), which knows only
    the operating points 0, 0.2007, 0.4055, 0.6190 and 0.8473 of the probability.
    """
    return probability.sigmoid()


class AngularSummary(NamedTuple):
    """Scores of the angular error: `mean`, `median`, `rmse` in degrees, shares of pixels below a limit in percent."""

    mean: Float64[Tensor, ""]
    median: Float64[Tensor, ""]
    rmse: Float64[Tensor, ""]
    below_11_25: Float64[Tensor, ""]
    below_22_5: Float64[Tensor, ""]
    below_30: Float64[Tensor, ""]


def angular_error_degrees(
    prediction: Float[Tensor, "*batch 3 h w"], label: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch h w"]:
    """Angle between two normal maps in degrees, 0 to 180: 2 atan2(|a - b|, |a + b|) of the normalised vectors.

    Exact near 0 and 180 degrees, where the arc cosine is not. A vector of length 0 is 90 degrees from every other.
    """
    a = unit(prediction.float())
    b = unit(label.float())
    return 2 * torch.atan2(length(a - b), length(a + b)).rad2deg()


def angular_sums(
    error: Float[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> tuple[Float64[Tensor, ""], Int64[Tensor, "18000"]]:
    """Sum of the errors (degrees) of the valid pixels, and their histogram in `ANGLE_BINS` bins. Both add up.

    A NaN error makes the sum NaN and stands in the last bin.
    """
    degrees = error.double()
    total = torch.where(valid, degrees, 0.0).sum()
    index = (degrees.nan_to_num(nan=180.0) * _BINS_PER_DEGREE).long().clamp(0, ANGLE_BINS - 1)
    return total, _bin_counts(index, valid, ANGLE_BINS)


def angular_summary(total: Float64[Tensor, ""], histogram: Int64[Tensor, "18000"]) -> AngularSummary:
    """Scores from pooled `angular_sums`; all NaN without pixels.

    The median and the root of the mean square are exact to half a bin, 0.005 degrees.
    """
    cumulative = histogram.cumsum(0)
    count = cumulative[-1]
    nan = float("nan")
    middle = torch.stack([(count - 1) // 2, count // 2]).clamp(min=0)
    bins = torch.searchsorted(cumulative, middle, right=True)
    median = torch.where(count > 0, ((bins + 0.5).double() / _BINS_PER_DEGREE).mean(), nan)
    centres = (torch.arange(ANGLE_BINS, dtype=torch.float64, device=histogram.device) + 0.5) / _BINS_PER_DEGREE
    rmse = _ratio((histogram * centres**2).sum(), count, empty=nan).sqrt()
    # The three limits are multiples of the bin width, so the shares are exact.
    shares = [
        100 * _ratio(cumulative[int(limit * _BINS_PER_DEGREE) - 1], count, empty=nan) for limit in (11.25, 22.5, 30)
    ]
    return AngularSummary(_ratio(total, count, empty=nan), median, rmse, *shares)


class DepthSummary(NamedTuple):
    """Depth scores, pooled over the valid pixels.

    `abs_err` and `rmse` in the unit of the labels, `abs_rel` and `log_rmse` (natural logarithm) without unit, `sq_rel`
    in the unit of the labels, `delta_1_25` the share of pixels with max(p/d, d/p) < 1.25 in percent.
    """

    abs_err: Float64[Tensor, ""]
    abs_rel: Float64[Tensor, ""]
    rmse: Float64[Tensor, ""]
    log_rmse: Float64[Tensor, ""]
    sq_rel: Float64[Tensor, ""]
    delta_1_25: Float64[Tensor, ""]


def depth_sums(
    prediction: Float[Tensor, "*pixels"],
    label: Float[Tensor, "*pixels"],
    valid: Bool[Tensor, "*pixels"],
    *,
    published: bool = False,
) -> Float64[Tensor, "7"]:
    """Sums over the valid pixels: pixels, |e|, |e|/d, e^2, (log p - log d)^2, e^2/d, pixels within 1.25. They add up.

    A label that is not a positive finite number is left out. The logarithm takes predictions below 1e-9 as 1e-9; the
    other sums take the prediction as it is. With `published`, as in the published meter, every sum takes predictions
    <= 0 as 1e-9, and labels of 0 stay in (which makes the relative sums infinite).
    """
    counted = valid if published else valid & (label > 0) & label.isfinite()
    depth = torch.where(counted, label, 1.0).double()
    value = torch.where(counted, prediction, 1.0).double()
    if published:
        value = torch.where(value <= 0, _PUBLISHED_SMALLEST_DEPTH, value)
    error = (value - depth).abs()
    log_error = value.clamp(min=_PUBLISHED_SMALLEST_DEPTH).log() - depth.log()
    near = (value < 1.25 * depth) & (depth < 1.25 * value)
    terms = torch.stack(
        [torch.ones_like(error), error, error / depth, error**2, log_error**2, error**2 / depth, near.double()]
    )
    return torch.where(counted, terms, 0.0).flatten(1).sum(1)


def depth_summary(sums: Float64[Tensor, "7"]) -> DepthSummary:
    """Scores from pooled `depth_sums`; all NaN without a pixel."""
    mean = _ratio(sums[1:], sums[0], empty=float("nan"))
    return DepthSummary(mean[0], mean[1], mean[2].sqrt(), mean[3].sqrt(), mean[4], 100 * mean[5])


def delta_m(
    values: Mapping[str, float], references: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """Multi-task gain in percent: mean over the tasks of the relative gain on the reference (Maninis et al., 2019).

    The three mappings have the same task names as keys. `references` are the scores of single-task networks trained on
    the same labels. Positive is better, for errors and for scores alike.

    Raises:
        ValueError: no task, different task names, or a reference of 0.
    """
    if not values or not (values.keys() == references.keys() == higher_is_better.keys()):
        raise ValueError(
            f"delta_m needs the same tasks in each mapping: values {sorted(values)}, "
            f"references {sorted(references)}, higher_is_better {sorted(higher_is_better)}"
        )
    if zero := [task for task, reference in references.items() if reference == 0]:
        raise ValueError(f"references of {', '.join(zero)} are 0, so a relative gain does not exist")
    gains = [
        (1 if higher_is_better[task] else -1) * (value - references[task]) / references[task]
        for task, value in values.items()
    ]
    return 100 * sum(gains) / len(gains)
