"""What several draws of noise, a mirror image or several networks answer for labelled images, task by task."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.data.evaluation import EvaluationBatch, evaluation_batches
from diffusionmtl.errors import UserError
from diffusionmtl.inference.calibration import class_entropy
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.tasks import Task

BATCH = 2
"""Images at once: all draws of a task are held at their full size."""


@runtime_checkable
class Source(Protocol):
    """Whatever answers for images several times over.

    Attributes:
        size: see `Predictor`.
    """

    size: tuple[int, int] | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it answers."""
        ...

    def draws(
        self,
        image: UInt8[Tensor, "b 3 h w"],
        keys: Sequence[int],
        samples: int,
        seed: int,
        size: tuple[int, int] | None,
    ) -> Iterator[tuple[Task, Float[Tensor, "s b a H W"]]]:
        """As `Predictor.draws`."""
        ...


class Ensemble:
    """Several networks that learnt the same tasks; each gives one draw, whatever number is asked for.

    Raises:
        UserError: they differ in tasks or in the size that they see.
    """

    def __init__(self, members: Sequence[Predictor], names: Sequence[str]) -> None:
        self.members = tuple(members)
        self.size = members[0].size
        for member, name in zip(members, names, strict=True):
            if member.tasks != members[0].tasks or member.size != self.size:
                raise UserError(f"--ensemble {name}: its tasks or --size are not those of {names[0]}; train it alike")

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Of every member."""
        return self.members[0].tasks

    def draws(
        self,
        image: UInt8[Tensor, "b 3 h w"],
        keys: Sequence[int],
        samples: int,
        seed: int,
        size: tuple[int, int] | None,
    ) -> Iterator[tuple[Task, Float[Tensor, "s b a H W"]]]:
        """One per member."""
        for several in zip(*(member.draws(image, keys, 1, seed, size) for member in self.members), strict=True):
            yield several[0][0], torch.cat([draws for _, draws in several])


@dataclass(frozen=True)
class Answered:
    """One labelled task of one image.

    Attributes:
        index: of the image.
        task: as the network knows it.
        draws: activated answers.
        mirrored: one for the mirror image, turned back; None if it was not asked for.
        classes: `calibration.class_entropy` of the first draw; None for a network that tells no classes.
    """

    index: int
    task: Task
    draws: Float[Tensor, "s 1 a h w"]
    mirrored: Float[Tensor, "1 a h w"] | None
    label: Shaped[Tensor, "1 k h w"]
    valid: Bool[Tensor, "1 h w"]
    classes: Float[Tensor, "1 h w"] | None = None

    @property
    def estimate(self) -> Float[Tensor, "1 a h w"]:
        """The mean of the draws: the answer."""
        return self.draws.mean(dim=0)

    @property
    def spread(self) -> Float[Tensor, "1 h w"] | None:
        """Of the draws; None for a single one."""
        return self.task.spread(self.draws) if len(self.draws) > 1 else None

    @property
    def extent(self) -> Float[Tensor, "1 h w"] | None:
        """How large the answer is, for a kind whose errors grow with it."""
        return self.task.extent(self.estimate)

    @property
    def label_index(self) -> Int64[Tensor, "1 h w"]:
        """The label of a kind with log odds as whole numbers."""
        return self.label[:, 0].long()


def answered(
    source: Source,
    dataset: DenseDataset,
    tasks: Mapping[str, Task],
    wanted: Mapping[int, Set[str]],
    samples: int,
    seed: int,
    mirror: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Answered]:
    """Everything that is said of the wanted labels, at their own resolution. No other label is opened.

    Args:
        tasks: those of the source, by the data set's word for them.
        wanted: per index of an image, which labels, in the data set's words.
        samples: noise draws.
        seed: of the noise, drawn per image.
        mirror: see each mirror image too.
    """
    words = {task.name: word for word, task in tasks.items()}
    chosen = [index for index, asked in wanted.items() if asked & tasks.keys()]
    done = 0
    for batch in evaluation_batches(dataset, chosen, source.size, BATCH):
        for size in dict.fromkeys(batch.sizes):
            rows = [row for row, other in enumerate(batch.sizes) if other == size]
            classes = _classes(source, batch, rows, size, seed)
            for task, draws, turned in _looked(source, batch, rows, size, samples, seed, mirror):
                word = words.get(task.name)
                for at, row in enumerate(rows):
                    index = batch.indices[row]
                    if word is None or word not in wanted[index]:
                        continue
                    label, valid = (x.as_subclass(Tensor) for x in dataset.label(index, word))
                    mirrored = None if turned is None else turned[at : at + 1]
                    unsure = None if classes is None else classes[at : at + 1]
                    yield Answered(index, task, draws[:, at : at + 1], mirrored, label[None], valid, unsure)
        done += len(batch.indices)
        if progress is not None:
            progress(done, len(chosen))


def _classes(
    source: Source, batch: EvaluationBatch, rows: Sequence[int], size: tuple[int, int], seed: int
) -> Tensor | None:
    """The entropy of the classes [b h w], by a look of its own: draws are held of one task at a time."""
    if all(type(task).log_odds is Task.log_odds or task.channels < 2 for task in source.tasks):
        return None
    seen = source.draws(batch.image[list(rows)], [batch.indices[row] for row in rows], 1, seed, size)
    found = class_entropy((task, draws[0]) for task, draws in seen)
    return None if found is None else found.cpu().float()


def _looked(
    source: Source,
    batch: EvaluationBatch,
    rows: Sequence[int],
    size: tuple[int, int],
    samples: int,
    seed: int,
    mirror: bool,
) -> Iterator[tuple[Task, Tensor, Tensor | None]]:
    """Per task the draws [s b a h w] and what the mirror images gave [b a h w]."""
    image, keys = batch.image[list(rows)], [batch.indices[row] for row in rows]
    seen = source.draws(image, keys, samples, seed, size)
    if not mirror:
        yield from ((task, draws.cpu().float(), None) for task, draws in seen)
        return
    turned = source.draws(image.flip(-1), keys, 1, seed, size)
    for (task, draws), (_, other) in zip(seen, turned, strict=True):
        # Of an ensemble the first member stands for all.
        yield task, draws.cpu().float(), task.mirrored(other[0]).cpu().float()
