"""What a kind counts so that a page can draw how its answers lie beside the labels: data alone, no picture.

Counts of several images add up: `one + other`. A page knows how to draw the four forms below, whichever kind of task
fills them.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

RATIO_BINS = 400
SMALLEST, LARGEST = 1e-4, 1e4
ANSWER_BINS = 100


@dataclass(frozen=True, eq=False)
class Counts:
    """Whole numbers that add up over images."""

    counts: Int64[np.ndarray, "r c"]

    def __add__(self, other: "Counts") -> "Counts":
        if type(other) is not type(self) or self._what() != other._what() or self.counts.shape != other.counts.shape:
            raise ValueError("counts of different things do not add up")
        return replace(self, counts=self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts) or type(other) is not type(self):
            return False
        return self._what() == other._what() and np.array_equal(self.counts, other.counts)

    def _what(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "counts"}


@dataclass(frozen=True, eq=False)
class ClassCounts(Counts):
    """Which class was taken for which: a row per class of the labels, a column per predicted one.

    Attributes:
        names: of the classes.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ValueCounts(Counts):
    """Predicted beside labelled values: a row per bin of the labels, a column per bin of the predictions.

    400 bins of equal ratio, 4.7 % wide each, from 1e-4 to 1e4; what lies beyond counts in the outermost.

    Attributes:
        unit: of both.
        near: the ratio within which a prediction counts as near.
    """

    unit: str
    near: float


@dataclass(frozen=True, eq=False)
class ErrorCounts(Counts):
    """How large errors are: one row of bins of equal width from 0.

    Attributes:
        unit: of the errors.
        width: of a bin.
        marks: errors that are usual to ask about.
    """

    unit: str
    width: float
    marks: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class AnswerCounts(Counts):
    """How probable yes was where the label says no (row 0) and yes (row 1): 100 bins of equal width from 0 to 1."""


def value_counts(
    value: Float[Tensor, "*pixels"], label: Float[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> Int64[np.ndarray, "400 400"]:
    """Counts of `ValueCounts` of the valid pixels."""
    bins = [_ratio_bin(of[valid]) for of in (label, value)]
    return _counted(bins[0] * RATIO_BINS + bins[1], (RATIO_BINS, RATIO_BINS))


def error_counts(
    error: Float[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"], width: float, bins: int
) -> Int64[np.ndarray, "1 b"]:
    """Counts of `ErrorCounts` of the valid pixels; what lies beyond counts in the last bin."""
    where = (error[valid].double() / width).nan_to_num(nan=bins, posinf=bins).long().clamp(0, bins - 1)
    return _counted(where, (1, bins))


def answer_counts(
    probability: Float[Tensor, "*pixels"], label: Bool[Tensor, "*pixels"], valid: Bool[Tensor, "*pixels"]
) -> Int64[np.ndarray, "2 100"]:
    """Counts of `AnswerCounts` of the valid pixels."""
    where = (probability[valid].double() * ANSWER_BINS).long().clamp(0, ANSWER_BINS - 1)
    return _counted(label[valid].long() * ANSWER_BINS + where, (2, ANSWER_BINS))


def _ratio_bin(value: Float[Tensor, "p"]) -> Int64[Tensor, "p"]:
    share = np.log(LARGEST / SMALLEST)
    place = (value.double().nan_to_num(nan=LARGEST).clamp(SMALLEST, LARGEST) / SMALLEST).log() / share * RATIO_BINS
    return place.long().clamp(max=RATIO_BINS - 1)


def _counted(cell: Int64[Tensor, "p"], shape: tuple[int, int]) -> Int64[np.ndarray, "r c"]:
    return torch.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).cpu().numpy()
