"""How good a network's uncertainties are: whether they find its errors, and whether what they state comes true.

Everything is kept in bins that add up over images, so memory does not grow with their number.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.inference.calibration import AS_SPREAD, AS_STATED, Calibration
from diffusionmtl.inference.draws import Answered, Source, answered
from diffusionmtl.metrics import calibration as mc
from diffusionmtl.metrics import sparsification as ms
from diffusionmtl.metrics.calibration import Scale, Temperature
from diffusionmtl.tasks import Task

DRAWS, ENTROPY, MIRROR = "draws", "entropy", "mirror"
CALIBRATED_ENTROPY = "entropy, calibrated"
CLASSES, EXPECTED = "classes", "expected error"
DOUBTS: tuple[str, ...] = (DRAWS, ENTROPY, CALIBRATED_ENTROPY, EXPECTED, MIRROR, CLASSES)
"""All that is compared, in the order in which it is shown."""
_FEW = 1e-3


@dataclass(frozen=True)
class Reliability:
    """What was stated and what came of it, per bin that holds pixels.

    Attributes:
        error: `metrics.calibration.calibration_error`.
        nll: mean negative log likelihood of the labels in nats; None for a kind without probabilities.
        share: of the pixels, per bin.
        stated: mean probability or expected error, per bin.
        came: how often it came true, or the mean error, per bin.
    """

    error: float
    nll: float | None
    share: tuple[float, ...]
    stated: tuple[float, ...]
    came: tuple[float, ...]

    @property
    def largest(self) -> float:
        """What was stated or came, at most, in bins of more than a thousandth of the pixels: a range to draw."""
        bins = zip(self.share, self.stated, self.came, strict=True)
        return max((number for share, *pair in bins if share > _FEW for number in pair), default=1.0)


@dataclass(frozen=True)
class Uncertainty:
    """Of one task.

    Attributes:
        images: how many had a label.
        pixels: how many of theirs were valid.
        error: the mean error, in `unit`.
        unit: of the error, and of what is stated if that is not a probability.
        probability: the kind states probabilities.
        oracle: the sparsification curve of the errors themselves, at `sparsification.FRACTIONS`.
        chance: the AUSE of an uncertainty that knows nothing.
        curves: of each uncertainty.
        ause: likewise, 0 is best.
        before: what is stated without a calibration; None if nothing is (one draw of a kind without probabilities).
        after: with it; None if there is none.
    """

    images: int
    pixels: int
    error: float
    unit: str
    probability: bool
    oracle: tuple[float, ...]
    chance: float
    curves: Mapping[str, tuple[float, ...]]
    ause: Mapping[str, float]
    before: Reliability | None
    after: Reliability | None


def measure_uncertainty(
    source: Source,
    dataset: DenseDataset,
    tasks: Mapping[str, Task],
    wanted: Mapping[int, Set[str]],
    samples: int,
    seed: int,
    calibration: Calibration | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[Answered], None] | None = None,
) -> dict[str, Uncertainty]:
    """Per task of the source that has a valid labelled pixel; see `draws.answered` for the arguments.

    The errors are those of the mean of all draws. They are ranked by the spread of the draws; by the entropy of the
    first draw alone, for kinds that state probabilities; by the spread of the first draw and what it becomes in the
    mirror; by the entropy of the classes, for tasks that tell none; and by the expected error, if it is calibrated.

    Args:
        watch: sees everything that is answered.
    """
    fitted = {} if calibration is None else calibration.tasks
    sums = {task.name: _Sums(task, fitted.get(task.name)) for task in tasks.values()}
    for answer in answered(source, dataset, tasks, wanted, samples, seed, mirror=True, progress=progress):
        sums[answer.task.name].add(answer)
        if watch is not None:
            watch(answer)
    return {name: found.summary() for name, found in sums.items() if found.pixels}


class _Sums:
    """All that is kept of one task."""

    def __init__(self, task: Task, fitted: Temperature | Scale | None) -> None:
        self._task, self._fitted = task, fitted
        self._images = 0
        self._oracle = torch.zeros(3, ms.BINS, dtype=torch.float64)
        self._ranked: dict[str, Tensor] = {}
        self._stated: dict[str, Tensor] = {}
        self._surprise: dict[str, float] = {}

    @property
    def pixels(self) -> int:
        return int(self._oracle[0].sum())

    def add(self, answer: Answered) -> None:
        valid, task = answer.valid, self._task
        self._images += 1
        error = task.error(task.value(answer.estimate), answer.label)
        self._oracle += ms.ranked_sums(error, error, valid)
        for name, doubt in self._doubts(answer).items():
            self._ranked[name] = self._ranked.get(name, 0) + ms.ranked_sums(doubt, error, valid)
        odds = task.log_odds(answer.estimate)
        if odds is not None:
            self._add_probability("before", odds, answer, AS_STATED)
            if isinstance(self._fitted, Temperature):
                self._add_probability("after", odds, answer, self._fitted)

    def _doubts(self, answer: Answered) -> dict[str, Tensor]:
        doubts: dict[str, Tensor] = {}
        if answer.spread is not None:
            doubts[DRAWS] = answer.spread
            if isinstance(self._fitted, Scale):
                doubts[EXPECTED] = self._fitted.expected(answer.spread, answer.classes, answer.extent)
        odds = self._task.log_odds(answer.draws[0])
        if odds is not None:
            doubts[ENTROPY] = mc.entropy(odds)
            if isinstance(self._fitted, Temperature):
                moved = odds / self._fitted.temperature + self._fitted.shift
                doubts[CALIBRATED_ENTROPY] = mc.entropy(moved)
        if answer.mirrored is not None:
            doubts[MIRROR] = self._task.spread(torch.stack([answer.draws[0], answer.mirrored]))
        if answer.classes is not None and (odds is None or odds.shape[1] == 1):
            doubts[CLASSES] = answer.classes
        return doubts

    def _add_probability(self, when: str, odds: Tensor, answer: Answered, fitted: Temperature) -> None:
        label = answer.label_index
        sums = mc.reliability_sums(*mc.spoken(mc.probabilities(odds, fitted), label), answer.valid)
        # Where nothing is valid a label may be anything.
        known = torch.where(answer.valid, label, 0)
        surprise = mc.negative_log_likelihood(odds, known, fitted)[answer.valid].double().sum()
        self._stated[when] = self._stated.get(when, 0) + sums
        self._surprise[when] = self._surprise.get(when, 0.0) + float(surprise)

    def summary(self) -> Uncertainty:
        if DRAWS in self._ranked and not self._stated:
            self._stated["before"] = mc.expected_error_sums(self._ranked[DRAWS], AS_SPREAD)
            if EXPECTED in self._ranked:
                self._stated["after"] = mc.expected_error_sums(self._ranked[EXPECTED], AS_SPREAD)
        return Uncertainty(
            images=self._images,
            pixels=self.pixels,
            error=float(self._oracle[2].sum() / self._oracle[0].sum()),
            unit=self._task.error_unit,
            probability=bool(self._surprise),
            oracle=_numbers(ms.sparsification(self._oracle)),
            chance=ms.ause_of_chance(self._oracle),
            curves={name: _numbers(ms.sparsification(ranked)) for name, ranked in self._ranked.items()},
            ause={name: ms.ause(ranked, self._oracle) for name, ranked in self._ranked.items()},
            before=self._reliability("before"),
            after=self._reliability("after"),
        )

    def _reliability(self, when: str) -> Reliability | None:
        if when not in self._stated:
            return None
        sums = self._stated[when]
        count, stated, came = sums[:, sums[0] > 0]
        nll = self._surprise[when] / self.pixels if when in self._surprise else None
        return Reliability(
            error=mc.calibration_error(sums),
            nll=nll,
            share=_numbers(count / count.sum()),
            stated=_numbers(stated / count),
            came=_numbers(came / count),
        )


def _numbers(values: Float64[Tensor, "n"]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
