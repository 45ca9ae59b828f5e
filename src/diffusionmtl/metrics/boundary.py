"""Boundary F-measures: odsF, oisF and average precision, with one-to-one matching within a tolerance.

An image becomes counts per threshold, counts become scores. Counts add up over images. Scores are in percent.

The protocol of the published tables (SEISM, reference tables): 8-bit probabilities, non-maximum suppression, 101
thresholds, thinning, matching within a share of the image diagonal, counts pooled over the images, the best F of the
101 without interpolation. Figures made with other protocols are not comparable, so a protocol has a name to print.

The matching is of maximum cardinality: never fewer matches than the customary C++ program finds, whose graph is partly
random, and the same ones every time.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from diffusionmtl.metrics.matching import match, near_pairs
from diffusionmtl.metrics.nms import suppress_non_maxima
from diffusionmtl.metrics.thinning import pack_nested, thin, thin_words, unpack


@dataclass(frozen=True)
class BoundaryProtocol:
    """How a probability map is turned into counts.

    Attributes:
        name: what to print beside a figure, as in `odsF@seism-0.0075`.
        max_distance: how far apart matched pixels may lie, as a share of the image diagonal.
        thresholds: ascending; a pixel is predicted where its probability is strictly greater.
        eight_bit: round probabilities to multiples of 1/255, as if they came from a PNG file.
        nms: suppress non-maxima first. It zeroes the outermost ring of pixels.
        thin_label: thin the labels as well as the predictions.
    """

    name: str
    max_distance: float
    thresholds: tuple[float, ...]
    eight_bit: bool = True
    nms: bool = True
    thin_label: bool = True

    def __post_init__(self) -> None:
        if not self.thresholds or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"boundary protocol {self.name}: thresholds must ascend, and there must be one at least")


_SEISM_THRESHOLDS = (0.001, *(k / 100 for k in range(1, 100)), 0.999)


def seism(tolerance: float) -> BoundaryProtocol:
    """The protocol of the published tables with matches up to `tolerance` times the image diagonal apart."""
    return BoundaryProtocol(f"seism-{tolerance:g}", tolerance, _SEISM_THRESHOLDS)


SEISM_PASCAL = seism(0.0075)
"""The protocol of the published PASCAL-Context figures."""

SEISM_NYUD = seism(0.011)
"""The protocol of the published NYUD figures."""

FAST = BoundaryProtocol("fast-0.0075", 0.0075, tuple(k / 20 for k in range(1, 20)), eight_bit=False, nms=False)
"""19 thresholds without non-maximum suppression: for watching a training run."""

# BSDS predicts where the probability reaches the threshold, a protocol where it exceeds it: a hair below does the same.
_BSDS_THRESHOLDS = tuple(float(np.nextafter(np.float32(k / 100), np.float32(0))) for k in range(1, 100))

BSDS = BoundaryProtocol("bsds-0.0075", 0.0075, _BSDS_THRESHOLDS, thin_label=False)
"""For several annotators per image (Martin et al., 2004): 99 thresholds, labels as they were drawn."""


def boundary_counts(
    probability: Float32[np.ndarray, "h w"],
    label: Bool[np.ndarray, "*annotators h w"],
    valid: Bool[np.ndarray, "h w"],
    protocol: BoundaryProtocol,
) -> Int64[np.ndarray, "4 t"]:
    """Matched predictions, predictions, matched labels and labels of one image, in pixels, per threshold.

    Invalid pixels hold neither predictions nor labels; their labels are never read. With several annotators, a
    prediction is matched if it is for any of them, and labels add up over them (BSDS). A NaN probability is no
    prediction. An image with neither gives zeros, which do not change a pooled score.

    A prediction equal to the label matches everywhere, but for label pixels on the outermost ring of the image when
    the protocol suppresses non-maxima.
    """
    pixels, predicted = _predictions(np.nan_to_num(probability, nan=0.0), valid, protocol)
    truths = (label & valid).reshape(-1, *valid.shape)
    if protocol.thin_label:
        truths = thin(truths)
    matched = np.zeros_like(predicted)
    matched_labels = np.zeros(len(predicted), dtype=np.int64)
    max_distance = protocol.max_distance * np.hypot(*valid.shape)
    for truth in truths:
        found = _match_each(pixels, predicted, truth, float(max_distance))
        matched |= found
        matched_labels += found.sum(axis=1)
    labels = np.full(len(predicted), truths.sum())
    return np.stack([matched.sum(axis=1), predicted.sum(axis=1), matched_labels, labels])


def _predictions(
    probability: Float32[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"], protocol: BoundaryProtocol
) -> tuple[Int64[np.ndarray, "p"], Bool[np.ndarray, "t p"]]:
    """The pixels predicted at any threshold (flat, ascending), and which of them remain after thinning at each."""
    if protocol.eight_bit:
        probability = np.round(probability * np.float32(255)) / np.float32(255)
    if protocol.nms:
        probability = suppress_non_maxima(probability)
    thresholds = np.array(protocol.thresholds, dtype=np.float32)
    # A pixel is predicted at the first so many thresholds, so the masks are nested.
    levels = np.searchsorted(thresholds, np.where(valid, probability, 0).ravel(), side="left")
    pixels = np.flatnonzero(levels)
    words = thin_words(pack_nested(levels[pixels], len(thresholds)), pixels, valid.shape)
    return pixels, unpack(words, len(thresholds))


def _match_each(
    pixels: Int64[np.ndarray, "p"],
    predicted: Bool[np.ndarray, "t p"],
    truth: Bool[np.ndarray, "h w"],
    max_distance: float,
) -> Bool[np.ndarray, "t p"]:
    """Which predictions are matched at each threshold."""
    pixel_position, label_position = near_pairs(pixels, truth, max_distance)
    near = np.unique(pixel_position)
    labels = int(truth.sum())
    matched = np.zeros_like(predicted)
    for k in range(len(predicted)):
        if k > 0 and np.array_equal(predicted[k, near], predicted[k - 1, near]):
            matched[k] = matched[k - 1]
        else:
            matched[k, match(pixel_position, label_position, predicted[k], labels)] = True
    return matched


def ods_f(counts: Int64[np.ndarray, "4 t"]) -> float:
    """The best F over thresholds common to all images, in percent, from pooled counts (no interpolation).

    0 if there are labels but no predictions, or the reverse; NaN if there is neither at any threshold.
    """
    f = _f_measure(counts)
    return float("nan") if np.isnan(f).all() else float(np.nanmax(f))


def ois_f(per_image_counts: Int64[np.ndarray, "n 4 t"]) -> float:
    """F in percent, every image contributing its counts at its own best threshold.

    Among equally good thresholds of an image the highest is taken, which predicts least. NaN as in `ods_f`.
    """
    f = np.nan_to_num(_f_measure(per_image_counts))
    best = f.shape[-1] - 1 - f[:, ::-1].argmax(axis=-1)
    chosen = np.take_along_axis(per_image_counts, best[:, None, None], axis=2).sum(axis=0)
    return ods_f(chosen)


def average_precision(counts: Int64[np.ndarray, "4 t"]) -> float:
    """Area under precision over recall in percent, from pooled counts.

    Straight lines join the measured points; below the smallest recall measured its precision holds, beyond the largest
    it is 0. (The BSDS program counts the part below the smallest recall as 0 too, so that a perfect prediction, which
    has one point only, would score 0.) NaN without labels.
    """
    matched, predictions, matched_labels, labels = counts[:, counts[1] > 0].astype(float)
    if not counts[3].any():
        return float("nan")
    if not len(predictions):
        return 0.0
    precision, recall = matched / predictions, matched_labels / labels
    order = np.lexsort((-precision, recall))
    precision, recall = precision[order], recall[order]
    between = np.diff(recall) * (precision[1:] + precision[:-1]) / 2
    return float(100 * (precision[0] * recall[0] + between.sum()))


def _f_measure(counts: Int64[np.ndarray, "*n 4 t"]) -> Float64[np.ndarray, "*n t"]:
    """F in percent; NaN where there is neither label nor prediction."""
    matched, predictions, matched_labels, labels = np.moveaxis(counts, -2, 0)
    precision = matched / np.maximum(predictions, 1)
    recall = matched_labels / np.maximum(labels, 1)
    f = 100 * 2 * precision * recall / np.where(matched > 0, precision + recall, 1)
    return np.where(predictions + labels > 0, f, np.nan)
