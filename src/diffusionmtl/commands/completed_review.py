"""What the review pages of a completed data set show, read back from its files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from diffusionmtl.commands.completed_files import Place, read_levels
from diffusionmtl.data.completed import CompletedDataset
from diffusionmtl.metrics.precision import threshold_of
from diffusionmtl.report.draw import heat
from diffusionmtl.report.review import Card, Labelled, write_pages

_LEAST_RANGE = 0.02


@dataclass(frozen=True)
class Reviewed:
    """What is reviewed.

    Attributes:
        completed: the folder that was written.
        place: where its other files lie.
        shares: per image and predicted task, the share of the pixels that is kept.
        limits: per predicted task the level from which on pixels are kept; None where nothing is.
    """

    completed: CompletedDataset
    place: Place
    shares: Mapping[str, Mapping[str, float]]
    limits: Mapping[str, int | None]

    def write(self, shown: int) -> list[Path]:
        """The pages with so many images, at most."""
        order = self.by_doubt()
        chosen = order[:shown]
        lead = (
            f"{len(chosen)} of {len(order)} images with predicted labels, those with most pixels left out first. Grey "
            "is unknown: not sure enough, or not valid. To take over a predicted label as your own, mend it and move "
            "it from predicted/TASK to TASK; to throw it away, delete it."
        )
        return write_pages(self.place.out, self._cards(chosen), len(chosen), lead)

    def by_doubt(self) -> list[str]:
        """The images with a prediction, the most doubtful first; equal ones by name."""
        return sorted((name for name, of in self.shares.items() if of), key=lambda name: (-self.doubt(name), name))

    def doubt(self, name: str) -> float:
        """The share of the predicted pixels that is left out, of tasks of which anything is kept at all."""
        kept = [share for task, share in self.shares[name].items() if self.limits[task] is not None]
        return 1 - sum(kept) / len(kept) if kept else 1.0

    def _cards(self, names: Sequence[str]) -> Iterator[Card]:
        index_of = {name: index for index, name in enumerate(self.place.dataset.names)}
        own = {name: index for index, name in enumerate(self.completed.names)}
        for name in names:
            image = self.completed.image(own[name]).permute(1, 2, 0).numpy()
            tasks = [self._task(name, own[name], index_of[name], task.name) for task in self.completed.tasks]
            yield Card(name, np.ascontiguousarray(image), self.doubt(name), tuple(tasks))

    def _task(self, name: str, own: int, index: int, task: str) -> Labelled:
        label = self._drawn(own, task) if task in self.completed.annotated(own) else None
        if task not in self.shares[name]:
            return Labelled(task, label)
        doubt = 1 - read_levels(self.place.confidence(index, task)) * threshold_of(1)
        limit = self.limits[task]
        top = 0.5 if limit is None else max(2 * (1 - threshold_of(limit)), _LEAST_RANGE)
        return Labelled(task, label, heat(doubt, top), self.shares[name][task])

    def _drawn(self, own: int, task: str) -> np.ndarray:
        kind = next(t for t in self.completed.tasks if t.name == task)
        label, valid = (x.as_subclass(Tensor) for x in self.completed.label(own, task))
        return kind.draw(label, valid[0])
