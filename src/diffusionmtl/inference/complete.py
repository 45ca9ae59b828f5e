"""Predictions that are sure enough to stand for labels: what is answered, how surely, and from where on it is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32, Shaped, UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.inference.bands import Estimates
from diffusionmtl.inference.calibration import calibrated_confidence
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.metrics.precision import (
    Kept,
    Tally,
    kept_from,
    level_of,
    levels,
    most_kept,
    precision_counts,
    surely_kept,
    threshold_of,
)
from diffusionmtl.tasks import Task


@dataclass(frozen=True)
class Asked:
    """What a completed label depends on beside the network and the image.

    Attributes:
        precision: the share of kept pixels that shall be right on other images, where no threshold is given.
        thresholds: by task, a confidence from 0 to 1 from which on pixels are kept.
        samples: noise draws.
        seed: of the noise.
        flip: see the mirror image too; a network without noise is otherwise never unsure of depth and normals.
    """

    precision: float = 0.95
    thresholds: tuple[tuple[str, float], ...] = ()
    samples: int = 4
    seed: int = 0
    flip: bool = True


@dataclass(frozen=True)
class Answer:
    """One task of one image.

    Attributes:
        value: in the task's unit.
        level: `metrics.precision.levels` of its confidence.
    """

    value: Shaped[Tensor, "c h w"]
    level: Int32[Tensor, "h w"]

    def kept(self, level: int) -> Bool[Tensor, "h w"]:
        """Where it is as sure as that."""
        return self.level >= level


@dataclass(frozen=True)
class Threshold:
    """From where on predictions of a task are kept, and what is known of that.

    Attributes:
        level: None where no threshold surely keeps the precision: nothing of this task is kept.
        given: it was asked for, not found.
        images: held-out images with a label of the task.
        precision: share of what it keeps of these that is right; None if there are none.
        checked: the same for labels that the threshold was not chosen by: found on every other held-out image and
            measured on the rest, and the reverse; None where there are not enough.
        share: of the pixels of the held-out labels that it keeps.
        yes: for kinds of yes or no, the precision of what it keeps of the pixels that are answered yes.
        at_least: the lower bound of the precision on images like the held-out ones, and of `yes` if that is less; None
            if there are fewer than two.
        estimate: the confidence from which on the precision is kept on the held-out labels, with no regard to how few
            they are; None if there is none, or the threshold was given.
    """

    level: int | None
    given: bool
    images: int
    precision: float | None
    checked: float | None
    share: float | None
    yes: float | None = None
    at_least: float | None = None
    estimate: float | None = None

    @property
    def confidence(self) -> float | None:
        """Of its level."""
        return None if self.level is None else threshold_of(self.level)


def answers(predictor: Predictor, image: UInt8[Tensor, "3 h w"], tasks: Set[str], asked: Asked) -> dict[str, Answer]:
    """Predict some tasks for one image; class probabilities are never held for the whole of it."""
    tiling = predictor.tiling_for((image.shape[-2], image.shape[-1]))
    parts: dict[str, list[Answer]] = {task.name: [] for task in predictor.tasks if task.name in tasks}
    for band in predictor.bands(image, asked.samples, asked.seed, tiling=tiling, flip=asked.flip):
        for task in predictor.tasks:
            if task.name in parts:
                found = band.tasks[task.name]
                level = levels(confidence(predictor, task, found))
                parts[task.name].append(Answer(task.value(found.mean)[0], level[0]))
    return {
        name: Answer(torch.cat([p.value for p in rows], dim=-2), torch.cat([p.level for p in rows], dim=-2))
        for name, rows in parts.items()
    }


def confidence(predictor: Predictor, task: Task, found: Estimates) -> Float[Tensor, "n h w"]:
    """How sure an answer is: the probability of it where a calibration says what that is, else as its kind says.

    What is fitted to spreads is left out: a threshold asks for an order, and they are of draws without mirror images.
    """
    fitted = None if predictor.calibration is None else predictor.calibration.tasks.get(task.name)
    calibrated = calibrated_confidence(task, found.mean, fitted)
    return task.confidence(found.mean, found.spread) if calibrated is None else calibrated


def find_thresholds(
    predictor: Predictor,
    dataset: DenseDataset,
    held_out: Mapping[int, Set[str]],
    wanted: Iterable[str],
    asked: Asked,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Threshold]:
    """Per task the threshold that is given, or keeps the precision on held-out labels and most of their pixels.

    Args:
        held_out: by index of an image, the tasks whose labels may be compared with.
        wanted: the tasks.
    """
    names = list(wanted)
    tallies = {name: [Tally.of(), Tally.of()] for name in names}
    tallies_of_yes: dict[str, list[Tally]] = {}
    by_name = {task.name: task for task in predictor.tasks}
    for done, (index, tasks) in enumerate(held_out.items(), start=1):
        seen = {name for name in names if name in tasks}
        found = answers(predictor, dataset.image(index), seen, asked) if seen else {}
        for name, answer in found.items():
            label, valid = (x.as_subclass(Tensor) for x in dataset.label(index, name))
            right = by_name[name].is_right(answer.value[None], label[None])[0]
            half = sum(tally.images for tally in tallies[name]) % 2
            tallies[name][half] += Tally.of(precision_counts(answer.level, right, valid[0]))
            yes = by_name[name].says_yes(answer.value[None])
            if yes is not None:
                of_yes = tallies_of_yes.setdefault(name, [Tally.of(), Tally.of()])
                of_yes[half] += Tally.of(precision_counts(answer.level, right, valid[0] & yes[0]))
        if progress is not None:
            progress(done, len(held_out))
    given = dict(asked.thresholds)
    return {
        name: threshold(tallies[name], asked.precision, given.get(name), tallies_of_yes.get(name)) for name in names
    }


def threshold(
    halves: Sequence[Tally],
    precision: float,
    given: float | None = None,
    halves_of_yes: Sequence[Tally] | None = None,
) -> Threshold:
    """The threshold for a task from either half of the held-out images.

    Args:
        halves_of_yes: of the pixels that are answered yes. Lines are so thin that nearly every answer is no and right;
            then a promise for all of them together would say nothing of the lines.
    """
    whole = halves[0] + halves[1]
    of_yes = None if halves_of_yes is None else halves_of_yes[0] + halves_of_yes[1]
    checked = estimate = None
    if given is not None:
        found = kept_from(whole.counts, level_of(given))
    else:
        found = surely_kept(whole, precision, among=of_yes)
        alone = most_kept(whole.counts, precision, among=None if of_yes is None else of_yes.counts)
        estimate = None if alone is None else threshold_of(alone.level)
        yes = (None, None) if halves_of_yes is None else halves_of_yes
        each = [surely_kept(half, precision, among=also) for half, also in zip(halves, yes, strict=True)]
        checked = _checked(halves, *each)
    if found is None:
        return Threshold(None, False, whole.images, None, None, None, estimate=estimate)
    known = whole.images > 0
    return Threshold(
        level=found.level,
        given=given is not None,
        images=whole.images,
        precision=_number(found.precision) if known else None,
        checked=checked,
        share=_number(found.share) if known else None,
        yes=_number(kept_from(of_yes.counts, found.level).precision) if known and of_yes is not None else None,
        at_least=_at_least([whole] if of_yes is None else [whole, of_yes], found.level),
        estimate=estimate,
    )


def _at_least(tallies: Iterable[Tally], level: int) -> float | None:
    """The least of their bounds; None where nothing is known of it."""
    known = [tally for tally in tallies if tally.images > 1 and kept_from(tally.counts, level).share > 0]
    return min((float(tally.at_least()[level]) for tally in known), default=None)


def _checked(halves: Sequence[Tally], first: Kept | None, second: Kept | None) -> float | None:
    """The precision of the threshold of each half on the other."""
    if first is None or second is None:
        return None
    sums = halves[1].counts[:, first.level :].sum(dim=1) + halves[0].counts[:, second.level :].sum(dim=1)
    right, kept = sums.tolist()
    return right / kept if kept else None


def _number(x: float) -> float | None:
    return x if x == x else None
