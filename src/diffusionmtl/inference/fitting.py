"""A calibration from held-out labels."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.inference.calibration import AS_SPREAD, AS_STATED
from diffusionmtl.inference.draws import Answered, Source, answered
from diffusionmtl.metrics import calibration as mc
from diffusionmtl.metrics.calibration import Scale, Temperature
from diffusionmtl.metrics.sparsification import ranked_sums
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task

PIXELS = 200_000
"""At most so many pixels of a task are looked at, equally many of every image where it has them."""


@dataclass(frozen=True)
class Fit:
    """What was found for one task.

    Attributes:
        before: figures on the held-out labels as the network states them.
        after: the same once calibrated.
        checked: whether `after` is of labels that the fit did not see: found on every other image, measured on the
            rest, and the reverse. Of one image alone it cannot be.
    """

    fitted: Temperature | Scale
    images: int
    pixels: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    checked: bool


@dataclass(frozen=True)
class _Sample:
    """Some pixels: log odds [p k] and labels, or spreads [p] and errors.

    Attributes:
        classes, extent: what else may foretell an error, [p]; None where there is no such.
    """

    stated: Tensor
    came: Tensor
    classes: Tensor | None = None
    extent: Tensor | None = None

    def fit(self) -> Temperature | Scale:
        if self.stated.ndim == 2:
            return mc.fit_temperature(self.stated, self.came)
        return mc.fit_scale(self.stated, self.came, self.classes, self.extent)

    def figures(self, fitted: Temperature | Scale) -> dict[str, float]:
        everywhere = torch.ones(len(self.stated), dtype=torch.bool)
        if isinstance(fitted, Scale):
            expected = fitted.expected(self.stated, self.classes, self.extent)
            sums = mc.expected_error_sums(ranked_sums(expected, self.came, everywhere), AS_SPREAD)
            within = {f"within_{k}": float((self.came <= k * expected).double().mean()) for k in (1, 2, 3)}
            return {"calibration_error": mc.calibration_error(sums), **within}
        probability = mc.probabilities(self.stated, fitted)
        sums = mc.reliability_sums(*mc.spoken(probability, self.came), everywhere)
        surprise = mc.negative_log_likelihood(self.stated, self.came, fitted).mean()
        return {"calibration_error": mc.calibration_error(sums), "nll": float(surprise)}


def fit_calibration(
    source: Source,
    dataset: DenseDataset,
    tasks: Mapping[str, Task],
    held_out: Mapping[int, Set[str]],
    samples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Fit]:
    """Per task of the source what makes its probabilities or spreads come true on the held-out labels.

    A task without a valid pixel is left out, and so is one without probabilities of which there is a single draw.

    Args:
        tasks: see `draws.answered`.
        held_out: by index of an image the labels that training did not learn from.
        samples: noise draws.
        seed: of noise and of the choice of pixels.
    """
    images = {word: sum(word in seen for seen in held_out.values()) for word in tasks}
    share = {task.name: max(1, PIXELS // max(1, images[word])) for word, task in tasks.items()}
    found: dict[str, list[_Sample]] = {}
    for answer in answered(source, dataset, tasks, held_out, samples, seed, progress=progress):
        sample = _sampled(answer, share[answer.task.name], derive_seed(seed, "calibration", answer.index))
        if sample is not None:
            found.setdefault(answer.task.name, []).append(sample)
    return {task.name: _fit(found[task.name]) for task in tasks.values() if task.name in found}


def _sampled(answer: Answered, most: int, seed: int) -> _Sample | None:
    pixels = answer.valid.flatten().nonzero()[:, 0]
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    pixels = pixels[order[:most]]
    if not len(pixels):
        return None
    odds, spread = answer.task.log_odds(answer.estimate), answer.spread
    if odds is not None:
        return _Sample(odds[0].flatten(1)[:, pixels].T.contiguous(), answer.label_index.flatten()[pixels])
    if spread is None:
        return None
    error = answer.task.error(answer.task.value(answer.estimate), answer.label)
    hints = [None if x is None else x.flatten()[pixels] for x in (answer.classes, answer.extent)]
    return _Sample(spread.flatten()[pixels], error.flatten()[pixels], *hints)


def _joined(samples: list[_Sample]) -> _Sample:
    def all_of(word: str) -> Tensor | None:
        parts = [getattr(sample, word) for sample in samples]
        return None if any(part is None for part in parts) else torch.cat(parts)

    stated, came = all_of("stated"), all_of("came")
    assert stated is not None and came is not None
    return _Sample(stated, came, all_of("classes"), all_of("extent"))


def _fit(samples: list[_Sample]) -> Fit:
    whole = _joined(samples)
    fitted = whole.fit()
    before = whole.figures(AS_STATED if isinstance(fitted, Temperature) else AS_SPREAD)
    checked = len(samples) > 1
    if checked:
        halves = [_joined(samples[start::2]) for start in (0, 1)]
        parts = [(other.figures(half.fit()), len(other.came)) for half, other in (halves, halves[::-1])]
        after = {word: sum(f[word] * n for f, n in parts) / len(whole.came) for word in before}
    else:
        after = whole.figures(fitted)
    return Fit(fitted, len(samples), len(whole.came), before, after, checked)
