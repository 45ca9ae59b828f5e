"""Figures about the labels of a task, of many labels together."""

from collections.abc import Mapping

from diffusionmtl.tasks import Task


class Figures:
    """`Task.describe` of many labels, put together.

    Attributes:
        weight: how many pixels are known.
    """

    def __init__(self, task: Task) -> None:
        self.weight = 0
        self._classes = {name for name, _ in task.legend()}
        self._sums: dict[str, float] = {}
        self._extremes: dict[str, float] = {}

    def add(self, figures: Mapping[str, float], pixels: int) -> None:
        """Add one label, of which so many pixels are known."""
        self.weight += pixels
        for name, value in figures.items():
            if name in ("min", "max") and name not in self._classes:
                keep = min if name == "min" else max
                self._extremes[name] = keep(value, self._extremes.get(name, value))
            else:
                self._sums[name] = self._sums.get(name, 0.0) + value * pixels

    def summary(self) -> dict[str, float]:
        """Smallest min, largest max, means weighted by pixels."""
        return {**self._extremes, **{name: total / max(self.weight, 1) for name, total in self._sums.items()}}
